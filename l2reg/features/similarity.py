"""Similarity of two scans of any contrasts: normalised correlation of their feature maps."""

import torch

from l2reg.batch import Batch
from l2reg.features.extractor import FeatureExtractor
from l2reg.geometry.filters import erode
from l2reg.shapes import Maps, Mask

_MARGIN = 1  # voxels along the edges of the masks, whose features come from beyond them


def scan_similarity(batch: Batch, features: FeatureExtractor, where: Mask | None = None) -> float:
    """Return the correlation of the feature maps of a pair where both masks are, in [-1, 1].

    Args:
        batch: One pair on one grid, with its masks.
        features: Extractor of the features.
        where: Mask of the voxels that count; by default those of both scans' masks.
    """
    both = batch["fixed_mask"] * batch["moving_mask"]
    maps = features(batch["fixed"], batch["moving"])
    return feature_correlation(*maps, erode(both if where is None else both * where, _MARGIN))


def feature_correlation(fixed: Maps, moving: Maps, mask: Mask) -> float:
    """Return the normalised correlation of two feature maps over all channels, in [-1, 1].

    It is 0 where there is nothing to compare: without a voxel in ``mask``, or if one of the scans
    is blank there.

    Args:
        fixed: Feature maps of the fixed scan of one pair.
        moving: Feature maps of the moving scan, on the same grid.
        mask: 1 for the voxels that count.
    """
    inside = mask[0, 0] > 0
    first, second = (maps[0][:, inside].double() for maps in (fixed, moving))
    if first.numel() == 0:
        return 0.0
    first, second = first - first.mean(), second - second.mean()
    norms = torch.linalg.vector_norm(first) * torch.linalg.vector_norm(second)
    return float((first * second).sum() / norms) if float(norms) > 0 else 0.0
