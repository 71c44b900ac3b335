"""Turn a checkpoint into an artefact that is proven to answer like it."""
