"""Programs for long checks by hand: fuzzing, soaking, Docker images. Run from the root: python -m tools.NAME."""
