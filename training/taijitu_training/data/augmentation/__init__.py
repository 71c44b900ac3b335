"""Change training pictures at random: flips, crops, colours, rotations and TrivialAugment."""
