"""Settings of the process: memory allocation, device and precision."""

import ctypes
import ctypes.util

import torch
from tqdm import tqdm

from l2reg.problems import InputError, Problem

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # numbers of glibc's malloc.h


def configure_malloc() -> bool:
    """Make glibc reuse freed memory instead of returning it; return whether it accepts the setting.

    Volumes are larger than the blocks that glibc keeps by default, so that every temporary would be
    mapped, zeroed and unmapped again. Entry points call this once; with another C library it does
    nothing.
    """
    name = ctypes.util.find_library("c")
    mallopt = getattr(ctypes.CDLL(name), "mallopt", None) if name else None
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))


def select_device(name: str) -> torch.device:
    """Return the device of a name.

    Args:
        name: ``cpu``, ``cuda``, ``cuda:N``, or ``auto`` for the first GPU. Without a GPU, ``auto``
            is the CPU, and a line is printed that says so.

    Raises:
        InputError: If there is no such device.
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
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError(f"{device.type} is no device that this program supports")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
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
    """Return the autocast context in which a network runs.

    Operations that need float32 disable it around themselves.

    Args:
        device: Device of the network.
        precision: ``float32``, which disables autocast, or ``bf16``.

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
