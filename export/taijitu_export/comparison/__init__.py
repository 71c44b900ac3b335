"""Compare logits and give a verdict."""
