"""ONNX files as bytes, read and edited without the onnx package, which boards do not have."""
