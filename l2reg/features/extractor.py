"""Feature extractor: a callable that computes feature maps of both images of a pair.

The maps lie on the images' grids. Their squared difference, summed over channels, measures how
badly the images match.
"""

from typing import Protocol, runtime_checkable

from l2reg.batch import Batch
from l2reg.geometry.filters import erode
from l2reg.shapes import Image, Maps, Mask


@runtime_checkable
class FeatureExtractor(Protocol):
    """Computes feature maps of a pair."""

    @property
    def reach(self) -> int:
        """Distance in voxels up to which the features of a voxel depend on others."""
        ...

    def __call__(self, fixed: Image, moving: Image) -> tuple[Maps, Maps]:
        """Return the feature maps of the fixed and of the moving image."""


def comparable_features(
    batch: Batch, features: FeatureExtractor
) -> tuple[tuple[Maps, Maps], tuple[Mask, Mask]]:
    """Return the feature maps of both scans, and their masks where the features can be compared.

    Where the scans overlap in part, features are computed from the overlap alone, and the masks
    leave out the margin in which features depend on voxels beyond it, or a derivative or an
    interpolation does.

    Args:
        batch: Pairs on the grid of the features.
        features: Extractor of the features.
    """
    fixed, moving = batch["fixed"].float(), batch["moving"].float()
    masks = (batch["fixed_mask"].float(), batch["moving_mask"].float())
    if "overlap" not in batch:
        return features(fixed, moving), masks
    overlap = batch["overlap"]
    inner = comparable_region(overlap, features)
    maps = features(fixed * overlap, moving * overlap)
    return maps, (masks[0] * inner, masks[1] * inner)


def comparable_region(overlap: Mask, features: FeatureExtractor) -> Mask:
    """Return an overlap without the margin in which features depend on voxels beyond it.

    So does a derivative or an interpolation there, by a voxel more.

    Args:
        overlap: 1 where both scans have data, on the grid of the features.
        features: Extractor of the features.
    """
    return erode(overlap, features.reach + 1)
