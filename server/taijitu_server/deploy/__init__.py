"""Write files for other servers: a Triton model repository, a Ray Serve application."""
