"""Keep freed memory: on a CPU, fresh pages cost more than the arithmetic on them."""

import ctypes
import ctypes.util

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # numbers of glibc's malloc.h


def keep_freed_memory() -> bool:
    """Tell glibc to reuse memory instead of returning it, and return whether it listens.

    Volumes are larger than what glibc keeps by default, so that every temporary would be mapped,
    zeroed and unmapped again. Entry points call this once; other C libraries are left alone.
    """
    name = ctypes.util.find_library("c")
    mallopt = getattr(ctypes.CDLL(name), "mallopt", None) if name else None
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))
