"""Score submissions: ``python evaluate.py ...`` in a checkout is ``l2reg evaluate ...``."""

import sys

from l2reg.cli.main import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
