"""Recipes: the hyper-parameters of a run, the named sets of them, and their tables."""
