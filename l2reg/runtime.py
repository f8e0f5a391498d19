"""Settings of the process: memory allocation, device and precision."""

import ctypes
import ctypes.util

import torch
from tqdm import tqdm

from l2reg.problems import InputError, Problem
from l2reg.wording import quantity

PRECISIONS = ("float32", "tf32", "bf16")

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
        threads = quantity(torch.get_num_threads(), "thread")
        tqdm.write(f"no CUDA device is visible: computing on the CPU, {threads}")
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
        precision: ``bf16``; ``float32`` and ``tf32`` disable autocast.

    Raises:
        InputError: If the precision is unknown.
    """
    if precision not in PRECISIONS:
        problem = Problem(
            where="precision",
            what="is unknown",
            expected=", ".join(PRECISIONS),
            found=precision,
            remedy="precision=float32",
        )
        raise InputError(problem)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def configure_convolutions(precision: str, *, repeated: bool) -> None:
    """Set how GPUs of NVIDIA compute convolutions in this process; a CPU ignores it.

    Args:
        precision: ``tf32`` rounds the factors of float32 convolutions to 10 bits of mantissa, which
            PyTorch does unless told otherwise; with other precisions they keep all bits.
        repeated: Whether many volumes of one shape follow, so that the search for the fastest
            algorithm pays. What it finds may differ from run to run, and with it the last bits.
    """
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = repeated
