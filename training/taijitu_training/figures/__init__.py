"""Figures of networks and runs: PNGs on white for `visualize`, SVG and HTML for both colour schemes for `report`."""
