"""Start of a registration: a map between the voxels of two scans, or a field."""

from dataclasses import dataclass

import torch

from l2reg.geometry.affine import affine_after_field, affine_field, invert_affine
from l2reg.geometry.compose import compose
from l2reg.geometry.warp import voxel_coords
from l2reg.shapes import Affine, Field, Shape3

_N_FITTED = 40_000  # voxels


@dataclass(frozen=True)
class Start:
    """What a registration starts from, from fixed to moving voxels.

    Attributes:
        matrix: The map; of a field the one that fits it best.
        disp: The field on the fixed scan's grid; ``None`` for a map alone.
    """

    matrix: Affine
    disp: Field | None = None

    def field(self, shape: Shape3) -> Field:
        """Return the start as a field on the fixed scan's grid, which has ``shape``."""
        return affine_field(self.matrix, shape) if self.disp is None else self.disp

    def after(self, disp: Field) -> Field:
        """Return the field of ``p -> start(p + disp(p))``: first the field, then the start.

        Args:
            disp: Field on the fixed scan's grid.
        """
        if self.disp is None:
            return affine_after_field(self.matrix, disp)
        return compose(self.disp, disp)

    def beyond_map(self, total: Field) -> Field:
        """Return the field that ``total`` applies before ``matrix``, on the same grid."""
        return affine_after_field(invert_affine(self.matrix), total)


def start_from_field(disp: Field) -> Start:
    """Return the start of a field from fixed to moving voxels, on the fixed scan's grid.

    Its map is fitted by least squares to voxels that are evenly spread.
    """
    step = max(1, round((disp[0, 0].numel() / _N_FITTED) ** (1 / 3)))
    sampled = (slice(None), slice(None), *[slice(None, None, step)] * 3)
    fixed = voxel_coords(disp)[sampled].flatten(2)[0].T.double()
    moving = fixed + disp[sampled].flatten(2)[0].T.double()
    rows = torch.cat([fixed, torch.ones_like(fixed[:, :1])], dim=1)
    matrix = torch.linalg.lstsq(rows, moving).solution.T
    return Start(matrix[None].to(disp.dtype), disp)
