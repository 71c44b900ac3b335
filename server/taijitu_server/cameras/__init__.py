"""Cameras of the server: their frames are classified and streamed to viewers."""
