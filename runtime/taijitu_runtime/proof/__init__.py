"""The passport of an artefact: generated pictures, the answers to them, and the re-run that compares."""
