"""Two scans at a low resolution, each on its own grid, for what needs no detail."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from l2reg.batch import Batch
from l2reg.geometry.affine import affine_field, compose_affine, invert_affine
from l2reg.geometry.filters import box_maximum
from l2reg.geometry.resize import resample, resize_image, voxel_ratio
from l2reg.geometry.warp import voxel_coords, warp
from l2reg.registration.start import Start
from l2reg.shapes import Affine, Field, Image, ImagePair, Mask, MaskPair, Shape3, Spacing

_WHOLE = 0.99  # interpolated mask above which a voxel counts as inside
_EVEN = 1e-3  # of the range of intensities; neighbours that differ by less are even
_MARGIN = 2  # voxels
_MIN_SIZE = 8  # voxels along an axis that has them


@dataclass(frozen=True)
class SmallScans:
    """Two scans on small grids of about the same, nearly isotropic spacing.

    Attributes:
        images: The fixed and the moving scan, intensities in [0, 1].
        masks: 1 where they have data, in a body or near it: evenly blank regions tell nothing.
        spacing_mm: Spacing of the fixed one.
        ratios: Voxels of the small grid per voxel of the full one, along each axis of both scans.
        volume_ratio: Voxels of the small moving grid per voxel of the small fixed grid.
    """

    images: ImagePair
    masks: MaskPair
    spacing_mm: Spacing
    ratios: tuple[Float[Tensor, "3"], Float[Tensor, "3"]]
    volume_ratio: float

    def batch(self, disp: Field) -> Batch:
        """Return the pair on the fixed grid, the moving scan warped.

        Args:
            disp: Field from fixed to moving small voxels, on the fixed grid.
        """
        return {
            "fixed": self.images[0],
            "moving": warp(self.images[1], disp),
            "fixed_mask": self.masks[0],
            "moving_mask": (warp(self.masks[1], disp, padding="zeros") > _WHOLE).float(),
            "spacing_mm": torch.tensor([self.spacing_mm], dtype=torch.float32),
        }

    def align(self, matrix: Affine) -> Batch:
        """Return the pair on the fixed grid, the moving scan warped by a map of small voxels."""
        i, j, k = self.images[0].shape[2:]
        return self.batch(affine_field(matrix, (i, j, k)))

    def at_start(self, start: Start) -> Batch:
        """Return the pair on the fixed grid, the moving scan warped by a start in full voxels."""
        if start.disp is None:
            return self.align(self.to_small(start.matrix))
        return self.batch(self.small_field(start.disp))

    def overlap(self, batch: Batch) -> float:
        """Return the volume that both scans show, as a fraction of the smaller scan, at most 1.

        It is measured on the fixed grid, where a deformation may show more than all of the moving
        scan's volume.

        Args:
            batch: The pair on the fixed grid.
        """
        both = float((batch["fixed_mask"] * batch["moving_mask"]).sum())
        fixed, moving = (float(mask.sum()) for mask in self.masks)
        return min(both / max(min(fixed, moving / self.volume_ratio), 1.0), 1.0)

    def to_small(self, matrix: Affine) -> Affine:
        """Return a map of full voxels as a map of small voxels."""
        return _convert(matrix, *self.ratios)

    def to_full(self, matrix: Affine) -> Affine:
        """Return a map of small voxels as a map of full voxels."""
        return _convert(matrix, 1 / self.ratios[0], 1 / self.ratios[1])

    def change(self, start: Affine, matrix: Affine) -> tuple[float, float]:
        """Return how far a map of small voxels moves the fixed centre from where ``start`` has it.

        Returns:
            The distance in mm, and the angle in degrees by which the map turns, both in the space
            of the fixed scan.
        """
        relative = compose_affine(invert_affine(start), matrix)[0]
        spacing = relative.new_tensor(self.spacing_mm)
        centre = (relative.new_tensor(self.images[0].shape[2:]) - 1) / 2
        moved = relative[:, :3] @ centre + relative[:, 3] - centre
        u, _, v = torch.linalg.svd(spacing[:, None] * relative[:, :3] / spacing)
        cosine = ((u @ v).trace() - 1) / 2
        return float((moved * spacing).norm()), float(cosine.clamp(-1, 1).arccos().rad2deg())

    def distance_mm(self, first: Affine, second: Affine) -> float:
        """Return the mean distance of two maps of small voxels over the fixed volume, in mm."""
        i, j, k = self.images[0].shape[2:]
        relative = affine_field(compose_affine(invert_affine(first), second), (i, j, k))
        lengths = (relative[0] * relative.new_tensor(self.spacing_mm)[:, None, None, None]).norm(
            dim=0
        )
        return float(lengths.mean())

    def small_field(self, disp: Field) -> Float[Tensor, "b 3 si sj sk"]:
        """Return a field from fixed to moving full voxels as one of small voxels."""
        i, j, k = self.images[0].shape[2:]
        positions = resample(disp + voxel_coords(disp), (i, j, k))
        return positions * self.ratios[1][:, None, None, None] - voxel_coords(positions)


def shrink_scans(
    images: ImagePair,
    masks: MaskPair,
    matrix: Affine,
    spacing_mm: Sequence[float],
    max_size: int,
) -> SmallScans:
    """Return two scans with at most ``max_size`` voxels along the longest side of the larger one.

    Args:
        images: The fixed and the moving scan, intensities in [0, 1], each on a grid of its own.
        masks: 1 where they have data.
        matrix: Map from fixed to moving voxels, of which only the spacing of the moving scan is
            used.
        spacing_mm: Spacing of the fixed scan.
        max_size: Largest number of voxels.
    """
    spacing = matrix.new_tensor(spacing_mm)
    moving_mm = torch.linalg.inv(matrix[0, :, :3] / spacing).norm(dim=0)
    extents = [
        (mm * (mm.new_tensor(image.shape[2:]) - 1)).tolist()
        for image, mm in zip(images, (spacing, moving_mm), strict=True)
    ]
    step_mm = max(map(max, extents)) / (max_size - 1)
    shapes = [
        _shape(image.shape[2:], extent, step_mm)
        for image, extent in zip(images, extents, strict=True)
    ]
    small = [resize_image(image, shape) for image, shape in zip(images, shapes, strict=True)]
    inside = [
        (resample(mask, shape) > _WHOLE).to(mask.dtype) * _content(image)
        for mask, shape, image in zip(masks, shapes, small, strict=True)
    ]
    ratios = [
        spacing.new_tensor(voxel_ratio(image.shape[2:], shape))
        for image, shape in zip(images, shapes, strict=True)
    ]
    i, j, k = (spacing / ratios[0]).tolist()
    volume_ratio = matrix[0, :, :3].det().abs() * ratios[1].prod() / ratios[0].prod()
    return SmallScans(
        (small[0], small[1]),
        (inside[0], inside[1]),
        (i, j, k),
        (ratios[0], ratios[1]),
        float(volume_ratio),
    )


def _content(image: Image) -> Mask:
    """Return 1 where a scan is not evenly blank, and some voxels around."""
    highest = box_maximum(image, 1)
    lowest = -box_maximum(-image, 1)
    textured = (highest - lowest > _EVEN * (image.max() - image.min())).to(image.dtype)
    return box_maximum(textured, _MARGIN)


def _shape(shape: Sequence[int], extent_mm: Sequence[float], step_mm: float) -> Shape3:
    i, j, k = (
        min(size, max(_MIN_SIZE, round(length / step_mm) + 1))
        for size, length in zip(shape, extent_mm, strict=True)
    )
    return (i, j, k)


def _convert(matrix: Affine, fixed: Float[Tensor, "3"], moving: Float[Tensor, "3"]) -> Affine:
    linear = moving[:, None] * matrix[:, :, :3] / fixed
    return torch.cat([linear, moving[:, None] * matrix[:, :, 3:]], dim=2)
