"""Recipes: what a run is trained with, the named sets of it, and their tables."""
