"""Deep-learning registration of 3D medical scans.

``l2reg.register`` is imported when it is first used, so that ``import l2reg`` loads nothing heavy.
"""

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from l2reg.registration.register import register

__all__ = ["register"]

# PyTorch's threads wait for each other by spinning for milliseconds. Where another program uses a
# core, that makes everything several times slower; without one it makes no difference. The variable
# is read when PyTorch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def __getattr__(name: str) -> object:
    """Import ``register`` when it is first used."""
    if name == "register":
        return importlib.import_module("l2reg.registration.register").register
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
