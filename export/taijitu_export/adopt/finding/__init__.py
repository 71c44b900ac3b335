"""The detective: how a network wants its pictures, found by how well it answers labelled ones."""
