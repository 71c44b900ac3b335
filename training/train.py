"""Train a network.

python training/train.py --model yynet_small_16 --data DIR --recipe yynet_cifar10 --out runs/a
"""

from taijitu_training.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
