"""Calibrate an ONNX file's probabilities: python export/calibrate.py model.onnx --data DIR -o calibrated.onnx."""

from taijitu_export.decision.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
