"""Deep-learning registration of 3D medical scans."""

import os

# PyTorch's threads wait for each other by spinning for milliseconds. Where another program has a
# core, that made everything several times slower; alone it makes no difference. Read when PyTorch
# is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
