"""Answer requests to all endpoints except those of KServe and of cameras."""
