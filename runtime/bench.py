"""Measure models.

python runtime/bench.py model.onnx|model.engine... [trtexec's flags] [--json]
"""

from taijitu_runtime.bench.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
