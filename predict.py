"""Write displacement fields: ``python predict.py ...`` in a checkout is ``l2reg predict ...``."""

import sys

from l2reg.cli.main import main

if __name__ == "__main__":
    main(["predict", *sys.argv[1:]])
