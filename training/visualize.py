"""Draw what a checkpoint learnt.

python training/visualize.py ckpt.pt [--image cat.jpg] [--out DIR]
"""

from taijitu_training.figures.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
