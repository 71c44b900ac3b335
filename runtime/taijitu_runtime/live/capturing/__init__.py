"""The process that reads a camera: opened, read, watched for damage, and killed where it hangs."""
