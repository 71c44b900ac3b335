"""What engine_from_onnx is made of: the library, its versions, the graph, the options, progress, and the proof."""
