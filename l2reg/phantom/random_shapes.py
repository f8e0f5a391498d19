"""Random shapes: class maps of anatomy that does not exist, of organs, shells, vessels and spots.

Largest values of smooth noise as label maps are those of SynthMorph (Hoffmann et al. 2021).
"""

import numpy as np
import torch

from l2reg.geometry.warp import voxel_coords
from l2reg.phantom.smooth_noise import smooth_noise
from l2reg.shapes import LabelMap, Maps

N_CLASSES = 24  # class 0 is outside the body
_N_ORGANS = 14  # at most, of which some are small or missing
_GRAINS = (6.0, 8.0, 11.0, 15.0, 20.0, 28.0)  # voxels
_SLOPE = 1.2  # of noise of deviation 1, in grains: a level set moves a voxel by this over the grain


def random_shapes(
    n_pairs: int, size: int, rng: np.random.Generator, generator: torch.Generator
) -> LabelMap:
    """Return class maps of random shapes, on cubes of ``size`` voxels; 0 outside the body.

    Args:
        n_pairs: Number of maps.
        size: Number of voxels along each axis.
        rng: Random numbers of the sizes.
        generator: Random numbers of the shapes; the result is on its device.
    """
    device = generator.device

    def noise(grain: float, channels: int = 1) -> Maps:
        return smooth_noise((n_pairs, channels), size, grain=grain, generator=generator)

    coarse, fine = sorted(rng.choice(_GRAINS[1:], 2, replace=False))[::-1]
    scores = noise(coarse, _N_ORGANS) + 0.4 * noise(fine, _N_ORGANS)
    scores += 0.7 * torch.randn(
        n_pairs, _N_ORGANS, 1, 1, 1, generator=generator, device=device
    )  # sizes
    classes = 1 + _argmax(scores)
    following = _N_ORGANS + 1
    for _ in range(3):  # shells, each in a part of the volume
        grain, thickness = rng.choice(_GRAINS[2:]), rng.uniform(1, 2.5)
        shell = noise(grain).abs() < _SLOPE * thickness / 2 / grain
        classes[shell & (noise(20.0) > 0.3)] = following
        following += 1
    for _ in range(3):  # tubes along the lines where two fields are zero
        grain, radius = rng.choice(_GRAINS[1:5]), rng.uniform(1, 4)
        pair = noise(grain, 2)
        tube = pair.square().sum(dim=1, keepdim=True) < (_SLOPE * radius / grain) ** 2
        classes[tube] = following
        following += 1
    for _ in range(2):  # spots
        classes[noise(rng.choice(_GRAINS[:3])) > rng.uniform(1.8, 2.6)] = following
        following += 1
    return torch.where(_bodies(n_pairs, size, generator), classes, 0)


def _argmax(scores: Maps) -> LabelMap:
    """Return the channel of the largest score: ``argmax``, which takes longer along this axis."""
    largest, classes = scores[:, :1], torch.zeros_like(scores[:, :1], dtype=torch.long)
    for channel in range(1, scores.shape[1]):
        score = scores[:, channel : channel + 1]
        classes.masked_fill_(score > largest, channel)
        largest = torch.maximum(largest, score)
    return classes


def _bodies(n_pairs: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Return masks of the bodies, each in or across the cube; some fill it."""
    device = generator.device

    def uniform(low: float, high: float) -> torch.Tensor:
        drawn = torch.rand(n_pairs, 3, 1, 1, 1, generator=generator, device=device)
        return low + (high - low) * drawn

    at = voxel_coords(torch.empty(n_pairs, 1, size, size, size, device=device)) / size - 0.5
    distance = ((at - uniform(-0.2, 0.2)) / uniform(0.35, 0.9)).square().sum(dim=1, keepdim=True)
    edge = smooth_noise((n_pairs, 1), size, grain=15.0, generator=generator)
    return distance + 0.12 * edge < 1
