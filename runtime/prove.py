"""Prove that a model answers here as where it was made: python runtime/prove.py model.onnx|model.engine [--json]."""

from taijitu_runtime.proof.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
