"""From float32 to float16 and int8, each proven on pictures before it is kept."""
