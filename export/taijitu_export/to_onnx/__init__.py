"""Convert a checkpoint to an ONNX file that carries its contract, or an ONNX file to a smaller precision."""
