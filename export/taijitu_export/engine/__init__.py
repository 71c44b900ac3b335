"""Build engines: the request, the library and its versions, the graph for its parser, and the sidecar."""
