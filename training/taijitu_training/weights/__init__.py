"""Weights from elsewhere: read, matched to a network, judged, and trained on."""
