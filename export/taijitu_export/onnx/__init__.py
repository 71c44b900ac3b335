"""Convert a checkpoint to an ONNX file that carries its contract."""
