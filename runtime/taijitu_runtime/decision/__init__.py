"""Which answers are known: the decision that a card carries, and the rule that applies it to answers."""
