"""Prealignment: a rough affine alignment of a pair, applied when it is read."""

from dataclasses import dataclass
from typing import Protocol, cast, get_args, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from l2reg.batch import Batch
from l2reg.geometry.affine import Motion, identity_affine
from l2reg.geometry.warp import voxel_coords
from l2reg.shapes import Affine, Mask

METHODS = ("none", "mask_centre", *get_args(Motion))


@runtime_checkable
class Search(Protocol):
    """Search for the affine map that aligns the images of one pair, such as block matching."""

    def __call__(self, batch: Batch, motion: Motion, start: Affine) -> Affine:
        """Return the map from fixed to moving voxels.

        Args:
            batch: One pair.
            motion: Family of maps to search in.
            start: Initial map, in voxels of the pair's grid.
        """


@dataclass(frozen=True)
class Prealign:
    """Method of prealignment.

    Attributes:
        method: ``none``; ``mask_centre``, the translation that aligns the centres of mass of the
            two masks (the abdomen's scans are far apart); or the family of maps that the search
            fits, starting from that translation: ``translation``, ``rigid`` or ``affine``.
        search: Search for the map of such a family.
    """

    method: str
    search: Search

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"prealign must be one of {', '.join(METHODS)}, got {self.method!r}")

    @property
    def searches(self) -> bool:
        """Whether the map is found by a search, which reads the images."""
        return self.method in get_args(Motion)

    def matrix(self, batch: Batch) -> Affine:
        """Return the map from fixed to moving voxels that aligns a pair roughly.

        Args:
            batch: One pair as ``reader.PairReader.read`` returns it, before the prealignment.
        """
        matrix = identity_affine(1)
        if self.method != "none":
            matrix[:, :, 3] = _centre(batch["moving_mask"]) - _centre(batch["fixed_mask"])
        if self.searches:
            matrix = self.search(batch, cast(Motion, self.method), matrix)
        return matrix


def _centre(mask: Mask) -> Float[Tensor, "b 3"]:
    """Return the centre of mass, in voxels."""
    weighted = (voxel_coords(mask) * mask).sum(dim=(2, 3, 4))
    return weighted / mask.sum(dim=(2, 3, 4))
