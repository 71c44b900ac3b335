"""Adopt networks that were trained elsewhere: give an ONNX file a contract of its own."""
