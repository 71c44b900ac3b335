"""Draw what a checkpoint learnt: python training/visualize.py ckpt.pt [--image cat.jpg] [--out DIR]"""

from taijitu_training.visualize import main

raise SystemExit(main())
