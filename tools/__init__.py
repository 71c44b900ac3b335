"""Programs for long checks by hand: fuzzing, soaking, Docker images. Run them from the root: python -m tools.NAME."""
