"""Reproduce a paper's table.

python training/reproduce.py yynet-table1 --data DIR [--epochs N] [--seeds K]
"""

from taijitu_training.tables.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
