"""Data augmentation: random transforms of a training pair with its labels, masks and keypoints."""

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

_INVERSION_STEPS = 20  # each one halves the error or better, for the deformations below


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Random flips, affine and elastic deformations, and intensity changes of a training pair.

    Both scans of a pair share the flips and one deformation, which keeps the motion between them.
    ``moving_strength`` adds a second, weaker deformation of the same kind to the moving scan, which
    changes the motion.

    Attributes:
        flip_axes: Array axes; each is flipped in half of the pairs.
        rotation_deg: Largest rotation about each axis, in degrees.
        scale: Largest relative change of size along each axis.
        translation_mm: Largest translation along each axis, in mm.
        elastic_mm: Standard deviation of a smooth random displacement, in mm.
        elastic_spacing_mm: Distance between the control points of that displacement, in mm.
        moving_strength: Strength of the moving scan's own deformation, as a fraction of the shared
            one.
        gain: Largest relative change of contrast, drawn for each scan.
        noise: Standard deviation of the added noise, for intensities in [0, 1]. A GPU draws other
            noise than a CPU.
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

    def __post_init__(self) -> None:
        if not set(self.flip_axes) <= {0, 1, 2}:
            raise ValueError(
                f"data.augment.flip_axes must be out of 0, 1 and 2, got {list(self.flip_axes)}"
            )
        for name in ("rotation_deg", "translation_mm", "elastic_mm", "moving_strength", "noise"):
            if getattr(self, name) < 0:
                raise ValueError(
                    f"data.augment.{name} must be 0 or more, got {getattr(self, name)}"
                )
        for name in ("scale", "gain"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"data.augment.{name} must be in [0, 1), got {getattr(self, name)}"
                )
        if self.elastic_spacing_mm <= 0:
            raise ValueError(
                f"data.augment.elastic_spacing_mm must be above 0, got {self.elastic_spacing_mm}"
            )

    def __call__(self, sample: Batch, rng: np.random.Generator) -> Batch:
        """Return a transformed sample; every random number comes from ``rng``.

        Args:
            sample: One pair.
            rng: Generator of the sample, so that the result does not depend on other samples.
        """
        shape = sample["fixed"].shape[2:]
        flip_axes = [axis for axis in self.flip_axes if rng.random() < 0.5]
        spacing = sample["spacing_mm"][0].cpu().numpy().astype(np.float64)
        device = sample["fixed"].device
        shared = self._random_field(shape, spacing, rng, device, strength=1.0)
        own = self._random_field(shape, spacing, rng, device, strength=self.moving_strength)
        tensors = cast(Mapping[str, Tensor], sample)
        result = dict(tensors)
        for side, disp in zip(SIDES, (shared, shared + own), strict=True):
            result |= _transform_scan(tensors, side, flip_axes, disp)
            result[side] = self._change_intensity(result[side], rng)
        return cast(Batch, result)

    def _random_field(
        self,
        shape: Sequence[int],
        spacing: np.ndarray,
        rng: np.random.Generator,
        device: torch.device,
        strength: float,
    ) -> Field:
        """Return the field of a random affine and elastic deformation, in voxels.

        Rotation and scale are about the centre of the volume and in mm, so that anisotropic voxels
        do not shear them.

        Args:
            shape: Shape of the grid.
            spacing: Voxel size in mm.
            rng: Source of the random numbers.
            device: Device on which the field is made; only its matrix and control points go there.
            strength: Factor of the largest rotation, scale, translation and displacement.
        """
        i, j, k = shape
        angles = np.deg2rad(rng.uniform(-1, 1, 3) * self.rotation_deg * strength)
        scales = np.diag(1 + rng.uniform(-1, 1, 3) * self.scale * strength)
        translation = rng.uniform(-1, 1, 3) * self.translation_mm * strength / spacing
        linear = np.diag(1 / spacing) @ _rotation(angles) @ scales @ np.diag(spacing)
        centre = (np.array(shape) - 1) / 2
        rows = np.column_stack([linear, centre - linear @ centre + translation])
        matrix = torch.tensor(rows[None], dtype=torch.float32)
        control_shape = [
            max(2, round(n * mm / self.elastic_spacing_mm)) + 1
            for n, mm in zip(shape, spacing, strict=True)
        ]
        noise = rng.normal(size=(1, 3, *control_shape)) / spacing[:, None, None, None]
        elastic = torch.tensor(noise * self.elastic_mm * strength, dtype=torch.float32)
        affine = affine_field(matrix.to(device), (i, j, k))
        return affine + resample(elastic.to(device), (i, j, k))

    def _change_intensity(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        gain = 1 + rng.uniform(-1, 1) * self.gain
        if self.noise == 0:
            return image * gain
        stream = torch.Generator(image.device).manual_seed(int(rng.integers(2**63)))
        noise = torch.randn(image.shape, generator=stream, device=image.device)
        return image * gain + self.noise * noise


def _transform_scan(
    sample: Mapping[str, Tensor], side: Side, flip_axes: Sequence[int], disp: Field
) -> dict[str, Tensor]:
    """Return image, mask, labels and points of one scan, flipped and then warped by ``disp``."""
    axes = [2 + axis for axis in flip_axes]
    keys = side_keys(side)
    image, mask, labels = (
        sample[key].flip(axes) if axes else sample[key]
        for key in (keys.image, keys.mask, keys.labels)
    )
    points = sample[keys.points].clone()
    for axis in flip_axes:
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
        keys.points: _warp_points(points, disp),
    }


def _warp_points(points: Points, disp: Field) -> Points:
    """Return the positions of ``points`` in the warped image.

    The position p of a point solves ``p + disp(p) = point``, by fixed-point iteration.
    """
    positions = points
    for _ in range(_INVERSION_STEPS if points.shape[1] else 0):
        positions = points - sample_at_points(disp, positions)
    return positions


def _rotation(angles: np.ndarray) -> np.ndarray:
    """Return the product of the rotations about axes 0, 1 and 2, by angles in radians."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        one_axis = np.eye(3)
        a, b = [other for other in range(3) if other != axis]
        one_axis[a, a] = one_axis[b, b] = np.cos(angle)
        one_axis[a, b], one_axis[b, a] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ one_axis
    return matrix
