"""Name what is in pictures.

python runtime/classify.py model.onnx picture... [--top 5] [--json]
"""

from taijitu_runtime.classify.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
