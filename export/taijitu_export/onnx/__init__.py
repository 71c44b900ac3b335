"""The graph of a network in ONNX, the passes over it, and the reading of ONNX files."""
