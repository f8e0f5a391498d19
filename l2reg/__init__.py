"""Deep-learning registration of 3D medical scans.

    import l2reg

    result = l2reg.register("fixed.nii.gz", "moving.nii.gz")
    warped = result.warp()                                  # nibabel image on the fixed grid
    labels = result.warp("moving_labels.nii.gz", labels=True)
    moved = result.points(points)                           # (n, 3) RAS mm, fixed to moving
    result.save("transform.h5")

Everything is imported when it is first used, so that ``import l2reg`` loads nothing heavy.
"""

import importlib
import os
from typing import TYPE_CHECKING

from l2reg.version import __version__

if TYPE_CHECKING:
    from l2reg.registration.register import register
    from l2reg.registration.result import Registration
    from l2reg.registration.scan_files import ScanFiles
    from l2reg.registration.shortcuts import evaluate, read

__all__ = ["Registration", "ScanFiles", "__version__", "evaluate", "read", "register"]

_MODULES = {
    "register": "l2reg.registration.register",
    "Registration": "l2reg.registration.result",
    "ScanFiles": "l2reg.registration.scan_files",
    "read": "l2reg.registration.shortcuts",
    "evaluate": "l2reg.registration.shortcuts",
}

# PyTorch's threads wait for each other by spinning for milliseconds. Where another program uses a
# core, that makes everything several times slower; without one it makes no difference. The variable
# is read when PyTorch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def __getattr__(name: str) -> object:
    """Import what ``l2reg`` offers when it is first used."""
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the names that ``l2reg`` offers."""
    return sorted([*globals(), *__all__])
