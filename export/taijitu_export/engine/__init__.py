"""Build engines: the library, its versions, the graph, the options, progress, and the proof."""
