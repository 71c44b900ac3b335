"""From a checkpoint to an artefact that is proven to answer like it."""
