"""Measure a model file with trtexec's flags, loop and report; the command is cli.py."""
