"""Export a checkpoint to ONNX: python export/to_onnx.py ckpt.pt [-o model.onnx]"""

from taijitu_export.cli import main

raise SystemExit(main())
