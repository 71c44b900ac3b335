"""`taijitu classify`: pictures in files and folders, answers on the terminal or as JSON."""
