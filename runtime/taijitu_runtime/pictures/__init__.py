"""Pictures: check and decode files, and convert them to a network's input, all defined here and only here."""
