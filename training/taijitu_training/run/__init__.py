"""One run in a folder: from its data to its checkpoints, its report and its end."""
