"""server/serve.py on a driver that hangs, as some do: for a batch with a white picture in it, until a file exists.

Only the layer between the server and ONNX Runtime's own code is changed; the server is the real one.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import onnxruntime

from taijitu_server.cli import main

RELEASE = Path(os.environ["RELEASE"])


class HangingSession(onnxruntime.InferenceSession):  # type: ignore[misc]  # onnxruntime has no types
    """A session that runs a network on all but white pictures."""

    def run(self, names: Any, inputs: dict[str, Any], *rest: Any) -> Any:
        while (inputs["images"] == 255).all(axis=(1, 2, 3)).any() and not RELEASE.exists():
            time.sleep(0.05)
        return super().run(names, inputs, *rest)


onnxruntime.InferenceSession = HangingSession

raise SystemExit(main())
