"""Move a far-off scan into view before anything else looks at it."""

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
    """Finds a map that brings the images of one pair together."""

    def __call__(self, batch: Batch, motion: Motion, start: Affine) -> Affine:
        """Return the map from fixed to moving voxels."""


@dataclass(frozen=True)
class Prealign:
    """How the moving scan is moved first.

    Attributes:
        method: ``none``; ``mask_centre``, the translation that brings the centres of mass of the
            two masks together (the abdomen's scans are far apart); or what the search, started
            there, may find: a ``translation``, a ``rigid`` or an ``affine`` map.
        search: What looks for it.
    """

    method: str
    search: Search

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"prealign must be one of {', '.join(METHODS)}, got {self.method!r}")

    @property
    def searches(self) -> bool:
        """Whether the images have to be looked at."""
        return self.method in get_args(Motion)

    def matrix(self, batch: Batch) -> Affine:
        """Return the map from fixed to moving voxels that aligns a pair roughly.

        Args:
            batch: One pair as ``reader.PairReader.read`` returns it, before any move.
        """
        matrix = identity_affine(1)
        if self.method != "none":
            matrix[:, :, 3] = _centre(batch["moving_mask"]) - _centre(batch["fixed_mask"])
        if self.searches:
            matrix = self.search(batch, cast(Motion, self.method), matrix)
        return matrix


def _centre(mask: Mask) -> Float[Tensor, "b 3"]:
    weighted = (voxel_coords(mask) * mask).sum(dim=(2, 3, 4))
    return weighted / mask.sum(dim=(2, 3, 4))
