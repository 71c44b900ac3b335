"""How a picture gets the size of the network: sizes and places, edges of a shrunk JPEG, and resizing as OpenCV does."""
