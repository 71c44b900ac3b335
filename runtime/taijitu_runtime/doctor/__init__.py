"""`taijitu doctor`: looks for what keeps models from running on this machine, and says the cure.

A check is a short function whose arguments are all that it looks at (the root of a file system, an environment, the
installed distributions), and which returns findings; checkup.py calls them all.
"""
