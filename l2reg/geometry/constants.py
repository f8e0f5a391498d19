"""Constants on a device: short vectors, such as the sizes of a grid, that are sent there once.

Making a tensor of the host's numbers on a GPU waits for all that the GPU still has to do.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor


def constant(like: Tensor, values: Sequence[float]) -> Tensor:
    """Return ``values`` as a vector of the type and device of ``like``; it must not be changed."""
    if torch.compiler.is_compiling():  # a compiled program has it as a constant of its own
        return torch.tensor(values, dtype=like.dtype, device=like.device)
    return _constant(tuple(map(float, values)), like.dtype, like.device)


@lru_cache(maxsize=1024)
def _constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(mode=False):  # such a tensor could not be used in training
        return torch.tensor(values, dtype=dtype, device=device)
