"""Where a network looks: class-activation maps of an ONNX file, and pictures of them."""
