"""Networks, training and checkpoints, a part of taijitu: what is promised is in the package `taijitu`."""
