"""Where logits are compared and a verdict is given."""
