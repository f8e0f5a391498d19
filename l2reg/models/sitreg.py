"""SITReg: a network whose field becomes its own inverse when the scans are exchanged.

After Honkamaa and Marttinen ("SITReg: Multi-resolution architecture for symmetric, inverse
consistent, and topology preserving image registration", 2024). Three things differ from the paper.
An update is the flow of an antisymmetric stationary velocity, whose inverse is the flow backwards;
the paper composes an invertible update with the inverse of the exchanged one. Inverses are
therefore composed along with the fields, and no iteration is needed. The grids of all levels have
the same corners.
"""

from collections.abc import Sequence

import torch
from torch import nn

from l2reg.batch import Batch
from l2reg.geometry.compose import compose, integrate
from l2reg.geometry.filters import smooth
from l2reg.geometry.resize import resample, resize_field
from l2reg.geometry.warp import warp
from l2reg.models.blocks import halvable_shape
from l2reg.models.heads import SQUARINGS
from l2reg.models.prediction import Prediction
from l2reg.models.pyramid import Encoder, FieldEstimator
from l2reg.shapes import Field, Image, WorkingGrid, as_working_grid


class SITReg(nn.Module):
    """Deforms both scans to a half-way space, coarse to fine, by antisymmetric updates.

    Args:
        features: Number of feature maps of levels 1, 2, ... of the encoder that both scans share;
            level 1 has half the working grid. The field of level 1 is interpolated to that grid.
        estimator: Number of feature maps of each convolution of a level's velocity estimator.
        max_velocity: Bound of each component of a level's velocity, in voxels of the level.
        grid: Working grid.
    """

    def __init__(
        self,
        features: Sequence[int],
        estimator: Sequence[int],
        max_velocity: float,
        grid: WorkingGrid,
    ) -> None:
        super().__init__()
        if not features:
            raise ValueError("features must have at least one level")
        self.grid = as_working_grid(grid)
        self.encoder = Encoder(features)
        self.min_size = 2**self.encoder.halvings
        self.levels = nn.ModuleList(
            AntisymmetricVelocity(channels, estimator, max_velocity)
            for channels in reversed(features)
        )

    def forward(self, batch: Batch) -> Prediction:
        """Return the field that aligns ``batch["moving"]`` with ``batch["fixed"]``."""
        i, j, k = batch["fixed"].shape[2:]
        pair = torch.cat([batch["fixed"], batch["moving"]]).float()
        pyramid = self.encoder(resample(pair, halvable_shape((i, j, k), self.encoder.halvings)))
        identity = pair.new_zeros(len(pair) // 2, 3, 2, 2, 2)
        from_fixed = to_fixed = to_moving = identity
        fields = []
        for maps, level in zip(reversed(pyramid), self.levels, strict=False):
            shape = (maps.shape[2], maps.shape[3], maps.shape[4])
            from_fixed, to_fixed, to_moving = (
                resize_field(disp, shape) for disp in (from_fixed, to_fixed, to_moving)
            )
            fixed, moving = maps.float().chunk(2)
            velocity = level(warp(fixed, to_fixed), warp(moving, to_moving))
            forward = integrate(velocity, squarings=SQUARINGS)
            to_moving = compose(to_moving, forward)
            to_fixed = compose(to_fixed, integrate(-velocity, squarings=SQUARINGS))
            from_fixed = compose(forward, from_fixed)
            fields.append(compose(to_moving, from_fixed))
        coarser = tuple(Prediction(field) for field in reversed(fields[:-1]))
        return Prediction(
            resize_field(fields[-1], (i, j, k)), levels=coarser if self.training else ()
        )


class AntisymmetricVelocity(nn.Module):
    """Estimates a stationary velocity that changes its sign when the scans are exchanged.

    Its weights are zero at first, so that a new network predicts the identity.

    Args:
        channels: Number of feature maps of each scan.
        widths: Number of feature maps of each convolution.
        max_velocity: See ``SITReg``.
    """

    def __init__(self, channels: int, widths: Sequence[int], max_velocity: float) -> None:
        super().__init__()
        self.max_velocity = max_velocity
        self.estimator = FieldEstimator(2 * channels, widths, dense=False)
        self.conv = nn.Conv3d(self.estimator.channels, 3, kernel_size=3, padding=1, bias=False)
        nn.init.zeros_(self.conv.weight)

    def forward(self, fixed: Image, moving: Image) -> Field:
        """Return half the velocity from fixed to moving, in voxels of this grid, in float32.

        Args:
            fixed: Feature maps of the fixed scan in the half-way space.
            moving: Feature maps of the moving scan in the half-way space.
        """
        total, difference = fixed + moving, moving - fixed
        maps = self.estimator(
            torch.cat([torch.cat([total, sign * difference], dim=1) for sign in (1, -1)])
        )
        with torch.autocast(fixed.device.type, enabled=False):
            forward, backward = self.conv(maps.float()).chunk(2)
            velocity: Field = self.max_velocity * torch.tanh(forward - backward)
            return smooth(velocity, passes=2)
