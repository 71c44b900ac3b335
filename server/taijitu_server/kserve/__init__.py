"""KServe v2 (the Open Inference Protocol) over REST."""
