"""The training loop: batches, losses, mixing, distillation and optimisation."""
