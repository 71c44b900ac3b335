"""Write files for others: a Triton model repository, a Ray Serve application, a folder for DeepStream."""
