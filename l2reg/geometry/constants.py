"""Constants on a device: short vectors, such as the sizes of a grid, that are sent there once.

Making a tensor of the host's numbers on a GPU waits for all that the GPU still has to do.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor


def constant(like: Tensor, values: Sequence[float]) -> Tensor:
    """Return ``values`` as a vector of the type and device of ``like``; it must not be changed."""
    vector: Tensor = _constant(tuple(map(float, values)), like.dtype, like.device)
    return vector


@torch.compiler.disable  # type: ignore[untyped-decorator]  # it could not leave inference mode
@lru_cache(maxsize=1024)
def _constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(mode=False):  # such a tensor could not be used in training
        return torch.tensor(values, dtype=dtype, device=device)
