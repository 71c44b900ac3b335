"""Convert float32 to float16 and int8; each is proven on pictures before it is kept."""
