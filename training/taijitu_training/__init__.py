"""Networks, training and checkpoints. The promised interface is in the package `taijitu`."""
