"""Calibration of answers: temperature, threshold and label sets, chosen on pictures with labels."""
