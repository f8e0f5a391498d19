"""Settings of the process: memory allocation, device and precision."""

import ctypes
import ctypes.util

import torch
from tqdm import tqdm

from l2reg.problems import InputError, Problem

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # numbers of glibc's malloc.h


def configure_malloc() -> bool:
    """Tell glibc to reuse memory instead of returning it, and return whether it listens.

    Volumes are larger than what glibc keeps by default, so that every temporary would be mapped,
    zeroed and unmapped again. Entry points call this once; other C libraries are left alone.
    """
    name = ctypes.util.find_library("c")
    mallopt = getattr(ctypes.CDLL(name), "mallopt", None) if name else None
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))


def select_device(name: str) -> torch.device:
    """Return the device of that name; ``auto`` is the first GPU, or the CPU and a line about it.

    Raises:
        InputError: If a GPU is asked for and there is none, or the name means nothing.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        tqdm.write(
            f"no CUDA device is visible: computing on the CPU, {torch.get_num_threads()} threads"
        )
        return torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        found = str(error).splitlines()[0]
        expected = "auto, cpu, cuda or cuda:N with a GPU that this PyTorch can use"
        problem = Problem(
            where=f"device={name}",
            what="cannot be used",
            expected=expected,
            found=found,
            remedy="device=auto",
        )
        raise InputError(problem) from error
    return device


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which a network runs; what needs float32 switches it off itself.

    Raises:
        InputError: If the precision is unknown.
    """
    if precision not in ("float32", "bf16"):
        problem = Problem(
            where="precision",
            what="is unknown",
            expected="float32 or bf16",
            found=precision,
            remedy="precision=float32",
        )
        raise InputError(problem)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
