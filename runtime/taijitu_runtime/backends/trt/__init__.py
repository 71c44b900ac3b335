"""TensorRT and TensorRT-RTX: the backend, what is checked before an engine loads, its graphs and its plugin."""
