"""Serve classifiers over HTTP. The package promises its HTTP interface, but no Python name; those are in `taijitu`."""
