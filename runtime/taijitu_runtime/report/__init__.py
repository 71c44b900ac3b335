"""Reports: the frame of a self-contained HTML page, and which labels a classifier confuses."""
