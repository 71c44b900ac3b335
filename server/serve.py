"""Serve a model over HTTP: python server/serve.py model.onnx [--host 127.0.0.1] [--port 8000]"""

from taijitu_server.cli import main

raise SystemExit(main())
