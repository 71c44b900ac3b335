"""HTTP around classifiers, a part of taijitu: what is promised is in the package `taijitu`, and its HTTP interface."""
