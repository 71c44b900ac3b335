"""Answer requests: one file for each endpoint that is not of KServe or a camera."""
