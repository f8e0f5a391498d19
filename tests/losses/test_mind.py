from collections.abc import Callable

import numpy as np
import pytest
import torch

from l2reg.losses.mind import MIND
from l2reg.losses.objective import Aligned

SHAPE = (13, 14, 15)


def test_it_finds_the_alignment_of_two_modalities(
    aligned: Callable[..., Aligned], rng: torch.Generator
) -> None:
    coarse = torch.rand(1, 1, 6, 6, 6, generator=rng)
    fixed = torch.nn.functional.interpolate(coarse, size=SHAPE, mode="trilinear")
    moving = torch.cos(4 * fixed).roll(2, dims=3)  # other contrast, two voxels away
    term = MIND(radius=1, dilation=2)
    losses = []
    for shift in range(5):
        disp = torch.zeros(1, 3, *SHAPE)
        disp[:, 1] = shift
        losses.append(float(term(aligned(fixed, moving, disp))))
    assert int(np.argmin(losses)) == 2


def test_impossible_patches_are_refused() -> None:
    with pytest.raises(ValueError, match="1 or more, got 0, 2"):
        MIND(radius=0, dilation=2)
