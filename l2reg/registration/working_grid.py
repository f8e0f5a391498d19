"""Working grid of two scans: that of the fixed scan, at a lower resolution if it is too large."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter
from torch import Tensor

from l2reg.batch import Batch, resize_batch
from l2reg.data.intensity import Region
from l2reg.geometry.affine import affine_field, invert_affine
from l2reg.geometry.warp import inside_volume, warp
from l2reg.registration.start import Start
from l2reg.shapes import Affine, Field, Mask, Shape3, Spacing, WorkingGrid

_LARGE_MM = 4.5  # spacing from which voxels are not made larger
_MIN_EXTENT = 24  # voxels of an overlap that ends inside the volume; half of as many tell little
_SIGMA = 1 / (8 * np.log(2)) ** 0.5  # standard deviation of a Gaussian of width 1

Views = tuple[Region, Bool[np.ndarray, "mi mj mk"]]  # fields of view of two scans, on their grids


def overlap_regions(views: Views, start: Start) -> Views:
    """Return the voxels of the fixed and of the moving scan that the start puts in both.

    Those of the moving scan are found by the map of the start alone.

    Args:
        views: Fields of view of the fixed and of the moving scan.
        start: What the registration starts from.
    """
    fixed, moving = (torch.from_numpy(view)[None, None].float() for view in views)
    i, j, k = views[0].shape
    forward = start.field((i, j, k))
    backward = affine_field(invert_affine(start.matrix), views[1].shape)
    in_both = fixed * _where_seen(moving, forward)
    moving_in_both = moving * _where_seen(fixed, backward)
    return in_both[0, 0].numpy() > 0, moving_in_both[0, 0].numpy() > 0


def shared_fraction(views: Views, regions: Views) -> float:
    """Return what both scans show as a fraction of the smaller field of view.

    Args:
        views: Fields of view of the fixed and of the moving scan.
        regions: Voxels of both that are in both, see ``overlap_regions``.
    """
    pairs = zip(regions, views, strict=True)
    return max(float(region.sum() / max(view.sum(), 1)) for region, view in pairs)


def _where_seen(view: Float[Tensor, "b 1 mi mj mk"], disp: Field) -> Mask:
    """Return 1 where ``disp`` points to data alone: into the volume, and no padding beside."""
    inside = inside_volume(disp, view.shape[2:])
    return inside if bool(view.all()) else inside * (warp(view, disp) > 0.99)


def working_batch(
    fixed: Tensor,
    moving: Tensor,
    start: Start,
    spacing_mm: Spacing,
    max_voxels: int,
    *,
    overlap: Region,
    cross_modality: bool = False,
) -> Batch:
    """Return two scans on their working grid, the moving scan warped by the start.

    Each scan is first smoothed along the axes on which it is finer than the other one, as details
    that only one of them shows cannot be matched.

    Args:
        fixed: The fixed scan, intensities in [0, 1], ``(1, c, i, j, k)``.
        moving: The moving scan, intensities in [0, 1], on a grid of its own.
        start: What the registration starts from.
        spacing_mm: Spacing of the fixed scan.
        max_voxels: Largest number of voxels of the working grid.
        overlap: Voxels of the fixed scan that both scans show, see ``overlap_regions``.
        cross_modality: Whether one of them is a CT, and the other one is not.
    """
    i, j, k = fixed.shape[2:]
    smoothed = smooth_to_resolution(moving, start.matrix)
    aligned = warp(smoothed, start.field((i, j, k)), padding="zeros")
    ones = torch.ones_like(fixed[:, :1])
    batch: Batch = {
        "fixed": smooth_to_resolution(fixed, invert_affine(start.matrix)),
        "moving": aligned,
        "fixed_mask": ones,
        "moving_mask": ones,
        "overlap": torch.from_numpy(overlap)[None, None].float(),
        "cross_modality": torch.tensor([float(cross_modality)]),
        "spacing_mm": torch.tensor([spacing_mm], dtype=torch.float32),
    }
    return resize_batch(batch, reduced_shape((i, j, k), max_voxels), masks="nearest")


def smooth_to_resolution(scan: Tensor, to_scan: Affine) -> Tensor:
    """Return a scan, smoothed along the axes on which a voxel of another grid spans several of its.

    Voxels are taken as Gaussians whose width at half maximum is their spacing, so that the smoothed
    scan has the resolution of the other grid (Cardoso et al. 2015, "Scale factor point spread
    function matching").

    Args:
        scan: The scan, ``(1, c, i, j, k)``.
        to_scan: Map from voxels of the other grid to those of the scan.
    """
    steps = to_scan[0, :, :3].abs().amax(dim=1).tolist()  # voxels of the scan, by its axes
    sigmas = [_SIGMA * max(step**2 - 1, 0) ** 0.5 for step in steps]
    if max(sigmas) == 0:
        return scan
    channels = [
        gaussian_filter(channel.numpy(), sigmas, mode="nearest", truncate=3) for channel in scan[0]
    ]
    return torch.from_numpy(np.stack(channels))[None]


def on_grids(batch: Batch, grids: Sequence[WorkingGrid]) -> list[Batch]:
    """Return a batch on each of the working grids of a method: ``half``, or ``full`` unchanged."""
    extents = overlap_extents(batch["overlap"])
    half = half_shape(batch["fixed"].shape[2:], batch["spacing_mm"][0].tolist(), extents)
    halved = resize_batch(batch, half, masks="nearest") if "half" in grids else batch
    return [halved if grid == "half" else batch for grid in grids]


def reduced_shape(shape: Shape3, max_voxels: int) -> Shape3:
    """Return a shape, if larger scaled down to about ``max_voxels`` voxels, all axes alike."""
    factor = max(1.0, (float(np.prod(shape)) / max_voxels) ** (1 / 3))
    i, j, k = (max(2, round(size / factor)) for size in shape)
    return (i, j, k)


def overlap_extents(overlap: Mask) -> list[float]:
    """Return the mean number of voxels of an overlap along i, j and k, on lines that meet it."""
    n_voxels = float(overlap.sum())
    return [n_voxels / max(float(overlap.amax(dim=axis).sum()), 1.0) for axis in range(2, 5)]


def half_shape(
    shape: Sequence[int], spacing_mm: Sequence[float], extents: Sequence[float]
) -> Shape3:
    """Return half of each size, but the full size of an axis that would show too little.

    Its voxels are large, at least twice as long as the shortest ones (thick slices) or 4.5 mm: the
    settings of the tasks are for working voxels of 2 to 4 mm. Or the overlap of the scans is thin
    and ends inside the volume, and nothing would be left of half of it beside the margin where
    features look beyond.

    Args:
        shape: Shape of the working grid.
        spacing_mm: Its voxel size, in mm.
        extents: Voxels of the overlap along each axis, see ``overlap_extents``.
    """
    large = [mm >= min(2 * min(spacing_mm), _LARGE_MM) for mm in spacing_mm]
    thin = [extent < min(n, _MIN_EXTENT) for extent, n in zip(extents, shape, strict=True)]
    i, j, k = (
        n if is_large or is_thin else (n + 1) // 2
        for n, is_large, is_thin in zip(shape, large, thin, strict=True)
    )
    return (i, j, k)
