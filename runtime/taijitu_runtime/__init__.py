"""The runtime, a part of taijitu: what is promised is in the package `taijitu`, and only there."""

from __future__ import annotations

import os

# From 1.29 on ONNX Runtime sends its maker the names and hashes of models, and of the processor, as soon as it is
# imported, which is later than this. Set the variable to 0 to let it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
