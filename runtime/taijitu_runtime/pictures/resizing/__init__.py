"""From decoded pixels to the size of the network: by Pillow or as OpenCV does, cropped or framed."""
