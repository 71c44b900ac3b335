"""From the bytes of a picture to pixels, by a decoder for each format; the headers were checked before."""
