"""ONNX Runtime: the backend, its sessions, its execution providers, and Nish in its blocked layout."""
