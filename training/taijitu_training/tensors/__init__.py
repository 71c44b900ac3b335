"""Read the tensors of files that others saved."""
