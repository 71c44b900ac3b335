"""Build a TensorRT engine.

python export/to_engine.py model.onnx --saveEngine=model.engine [trtexec's flags]
"""

from taijitu_export.engine.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
