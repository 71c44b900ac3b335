"""From a graph to a plan: configured, built, and its layers counted."""
