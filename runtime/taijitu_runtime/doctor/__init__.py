"""`taijitu doctor`: find problems that keep models from running on this machine, and name the cure.

A check is a short function that examines only its arguments (the root of a file system, an environment, the installed
distributions) and returns findings; checkup.py calls all checks.
"""
