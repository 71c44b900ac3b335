"""Export a checkpoint to ONNX.

python export/to_onnx.py ckpt.pt [-o model.onnx]
"""

from taijitu_export.to_onnx.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
