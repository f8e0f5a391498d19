"""Train a registration network: ``python train.py ...`` in a checkout is ``l2reg train ...``."""

import sys

from l2reg.cli.main import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
