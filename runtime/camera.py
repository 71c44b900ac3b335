"""Classify what a camera or video shows.

python runtime/camera.py model.onnx --source 0 [--display] [--jsonl -]
"""

from taijitu_runtime.live.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
