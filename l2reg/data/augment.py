"""Random transforms of a training pair: images, labels, masks and keypoints move together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from l2reg.batch import SIDES, Batch, Side, side_keys
from l2reg.geometry.affine import affine_field
from l2reg.geometry.resize import resample
from l2reg.geometry.warp import sample_at_points, warp
from l2reg.shapes import Field, Points

_INVERSION_STEPS = 20  # the transforms below contract by half or more each


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Flips, affine and elastic deformations, and gain and noise of the intensities.

    Flips, rotation, scale and shift are shared by both scans of a pair, so that the motion
    between them stays as it was; ``moving_strength`` applies a second, weaker transform of the same
    kind to the moving scan alone and so changes the motion to be found.

    Attributes:
        flip_axes: Array axes that are flipped in half of the pairs.
        rotation_deg: Largest rotation about each axis.
        scale: Largest relative change of size along each axis.
        translation_mm: Largest shift along each axis.
        elastic_mm: Standard deviation of a smooth random displacement.
        elastic_spacing_mm: Distance of its control points.
        moving_strength: Strength of the moving scan's own transform, as a fraction of the above.
        gain: Largest relative change of contrast, drawn for each scan.
        noise: Standard deviation of the noise added, intensities being in [0, 1].
    """

    flip_axes: Sequence[int]
    rotation_deg: float
    scale: float
    translation_mm: float
    elastic_mm: float
    elastic_spacing_mm: float
    moving_strength: float
    gain: float
    noise: float

    def __call__(self, sample: Batch, rng: np.random.Generator) -> Batch:
        """Return the transformed sample of one pair; every random number comes from ``rng``."""
        shape = sample["fixed"].shape[2:]
        flipped = [axis for axis in self.flip_axes if rng.random() < 0.5]
        spacing = sample["spacing_mm"][0].cpu().numpy().astype(np.float64)
        shared = self._random_field(shape, spacing, rng, strength=1.0).to(sample["fixed"].device)
        own = self._random_field(shape, spacing, rng, strength=self.moving_strength).to(
            shared.device
        )
        tensors = cast(Mapping[str, Tensor], sample)
        result = dict(tensors)
        for side, disp in zip(SIDES, (shared, shared + own), strict=True):
            result |= _transformed(tensors, side, flipped, disp)
            result[side] = self._intensity(result[side], rng)
        return cast(Batch, result)

    def _random_field(
        self, shape: Sequence[int], spacing: np.ndarray, rng: np.random.Generator, strength: float
    ) -> Field:
        i, j, k = shape
        angles = np.deg2rad(rng.uniform(-1, 1, 3) * self.rotation_deg * strength)
        scales = np.diag(1 + rng.uniform(-1, 1, 3) * self.scale * strength)
        shift = rng.uniform(-1, 1, 3) * self.translation_mm * strength / spacing
        linear = np.diag(1 / spacing) @ _rotation(angles) @ scales @ np.diag(spacing)
        centre = (np.array(shape) - 1) / 2
        matrix = np.column_stack([linear, centre - linear @ centre + shift])
        affine = affine_field(torch.tensor(matrix, dtype=torch.float32)[None], (i, j, k))
        knots = [
            max(2, round(n * mm / self.elastic_spacing_mm)) + 1
            for n, mm in zip(shape, spacing, strict=True)
        ]
        noise = rng.normal(size=(1, 3, *knots)) / spacing[:, None, None, None]
        elastic = torch.tensor(noise * self.elastic_mm * strength, dtype=torch.float32)
        return affine + resample(elastic, (i, j, k))

    def _intensity(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        gain = 1 + rng.uniform(-1, 1) * self.gain
        if self.noise == 0:
            return image * gain
        noise = torch.from_numpy(rng.normal(0, self.noise, image.shape).astype(np.float32))
        return image * gain + noise.to(image.device)


def _transformed(
    sample: Mapping[str, Tensor], side: Side, flipped: Sequence[int], disp: Field
) -> dict[str, Tensor]:
    """Return one scan and all that belongs to it, flipped and then looked up through ``disp``."""
    axes = [2 + axis for axis in flipped]
    keys = side_keys(side)
    image, mask, labels = (
        sample[key].flip(axes) if axes else sample[key]
        for key in (keys.image, keys.mask, keys.labels)
    )
    points = sample[keys.points].clone()
    for axis in flipped:
        points[..., axis] = image.shape[2 + axis] - 1 - points[..., axis]
    nearest = warp(
        torch.cat([mask, labels.to(mask.dtype)], dim=1),
        disp,
        interpolation="nearest",
        padding="zeros",
    )
    return {
        keys.image: warp(image, disp, padding="zeros"),
        keys.mask: nearest[:, :1],
        keys.labels: nearest[:, 1:].to(labels.dtype),
        keys.points: _moved(points, disp),
    }


def _moved(points: Points, disp: Field) -> Points:
    """Return where the content at ``points`` ends up: the solution p of ``p + disp(p) = point``."""
    moved = points
    for _ in range(_INVERSION_STEPS if points.shape[1] else 0):
        moved = points - sample_at_points(disp, moved)
    return moved


def _rotation(angles: np.ndarray) -> np.ndarray:
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        a, b = [other for other in range(3) if other != axis]
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix
