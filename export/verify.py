"""Judge a model on pictures.

python export/verify.py model.onnx --data DIR [--reference ckpt.pt|other.onnx]
"""

from taijitu_export.comparison.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
