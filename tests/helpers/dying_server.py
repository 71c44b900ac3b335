"""server/serve.py on a driver that ends its thread, as some do: SystemExit for a batch with a white picture in it.

Only the layer between the server and ONNX Runtime's own code is changed; the server is the real one.
"""

from __future__ import annotations

from typing import Any

import onnxruntime

from taijitu_server.cli import main


class DyingSession(onnxruntime.InferenceSession):  # type: ignore[misc]  # onnxruntime has no types
    """A session that runs a network on all but white pictures."""

    def run(self, names: Any, inputs: dict[str, Any], *rest: Any) -> Any:
        if (inputs["images"] == 255).all(axis=(1, 2, 3)).any():
            raise SystemExit("the driver gave up")
        return super().run(names, inputs, *rest)


onnxruntime.InferenceSession = DyingSession

raise SystemExit(main())
