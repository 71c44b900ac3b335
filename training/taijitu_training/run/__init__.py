"""One run in a folder: its data, its checkpoints, its report and its end."""
