"""Cameras of the server: frames through a model, and on to every viewer."""
