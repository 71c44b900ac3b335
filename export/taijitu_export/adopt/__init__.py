"""The door for networks that were trained elsewhere: an ONNX file with a contract of its own."""
