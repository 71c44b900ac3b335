"""Reproduce a paper's table: python training/reproduce.py yynet-table1 --data DIR [--epochs N] [--seeds K]"""

from taijitu_training.reproduce import main

raise SystemExit(main())
