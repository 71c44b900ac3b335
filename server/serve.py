"""Serve a model over HTTP.

python server/serve.py model.onnx [--host 127.0.0.1] [--port 8000]
"""

import sys

from taijitu.command import main

if __name__ == "__main__":
    raise SystemExit(main(["serve", *sys.argv[1:]]))
