"""Pictures: what a file is, its pixels, and the one definition of how they become a network's input."""
