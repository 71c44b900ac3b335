"""`taijitu classify`: classify pictures in files and folders, and print the answers as text or JSON."""
