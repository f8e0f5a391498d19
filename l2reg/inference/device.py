"""Where and how precisely to compute."""

import torch
from tqdm import tqdm

from l2reg.problems import InputError, Problem


def pick_device(name: str) -> torch.device:
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
        problem = Problem(f"device={name}", "cannot be used", expected, found, "device=auto")
        raise InputError(problem) from error
    return device


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which a network runs; what needs float32 switches it off itself.

    Raises:
        InputError: If the precision is unknown.
    """
    if precision not in ("float32", "bf16"):
        problem = Problem(
            "precision", "is unknown", "float32 or bf16", precision, "precision=float32"
        )
        raise InputError(problem)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
