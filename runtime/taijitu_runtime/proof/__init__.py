"""The passport of an artefact: generated pictures, the answers that belong to them, and the re-run that compares."""
