"""Vector Field Attention (VFA): features of both scans, matched without weights at every level.

After Liu, Chen, Prince and Carass ("Vector Field Attention for Deformable Image Registration",
2024). Three things differ from the paper. The fixed maps become queries by a convolution that is
zero at first, so that a new network predicts the identity. Features are normalised over each
volume. The grids of all levels have the same corners.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from l2reg.batch import Batch
from l2reg.geometry.compose import compose
from l2reg.geometry.resize import resample, resize_field
from l2reg.geometry.warp import warp
from l2reg.models.blocks import halvable_shape
from l2reg.models.cost_volume import cost_volume
from l2reg.models.heads import as_prediction, check_kind
from l2reg.models.prediction import Prediction
from l2reg.models.pyramid import NormalisedBlock
from l2reg.shapes import Field, Image, WorkingGrid, as_working_grid


class VFA(nn.Module):
    """Matches the features of both scans coarse to fine; only their extractor is learned.

    Every level compares each fixed voxel with the 3x3x3 neighbourhood of the same position in the
    moving features, warped by the field of the coarser levels, and adds the mean offset to that
    field by composition.

    Args:
        encoder: Number of feature maps per level of the extractor, finest first; every level but
            the first halves the grid.
        decoder: Number of feature maps per level that is matched, coarsest first; as many entries
            as ``encoder`` at most. With fewer the last field is interpolated to the working grid.
        head: Quantity that a mean offset is: ``displacement``, ``velocity`` or ``gradient``.
        grid: Working grid.
    """

    def __init__(
        self, encoder: Sequence[int], decoder: Sequence[int], head: str, grid: WorkingGrid
    ) -> None:
        super().__init__()
        if not 0 < len(decoder) <= len(encoder):
            raise ValueError(
                "decoder must have at least one level, and no more than encoder\n"
                f"  encoder  {list(encoder)}\n"
                f"  decoder  {list(decoder)}"
            )
        self.grid = as_working_grid(grid)
        self.extractor = FeatureUNet(encoder, decoder)
        self.min_size = 2**self.extractor.halvings
        self.levels = nn.ModuleList(VectorFieldAttention(width, head) for width in decoder)

    def forward(self, batch: Batch) -> Prediction:
        """Return the field that aligns ``batch["moving"]`` with ``batch["fixed"]``."""
        i, j, k = batch["fixed"].shape[2:]
        pair = torch.cat([batch["fixed"], batch["moving"]]).float()
        pyramid = self.extractor(resample(pair, halvable_shape((i, j, k), self.extractor.halvings)))
        disp = pair.new_zeros(len(pair) // 2, 3, 2, 2, 2)
        fields = []
        for maps, level in zip(pyramid, self.levels, strict=True):
            fixed, moving = maps.chunk(2)
            disp = level(fixed, moving, disp)
            fields.append(disp)
        coarser = tuple(Prediction(field) for field in reversed(fields[:-1]))
        return Prediction(resize_field(disp, (i, j, k)), levels=coarser if self.training else ())


class FeatureUNet(nn.Module):
    """U-Net of one image, whose decoder's maps are the features of all levels.

    Args:
        encoder: See ``VFA``.
        decoder: See ``VFA``.
    """

    def __init__(self, encoder: Sequence[int], decoder: Sequence[int]) -> None:
        super().__init__()
        self.halvings = len(encoder) - 1
        widths = [1, *encoder]
        self.down = nn.ModuleList(
            NormalisedBlock(widths[level], width, stride=1 if level == 0 else 2)
            for level, width in enumerate(encoder)
        )
        skips = [0, *reversed(encoder[:-1])]
        inputs = [encoder[-1], *decoder]
        self.up = nn.ModuleList(
            NormalisedBlock(channels + skip, width)
            for channels, skip, width in zip(inputs, skips, decoder, strict=False)
        )

    def forward(self, image: Image) -> list[Tensor]:
        """Return the ``(b, c, i, j, k)`` maps of every matched level, coarsest first."""
        skips = [image]
        for block in self.down:
            skips.append(block(skips[-1]))
        maps = [self.up[0](skips.pop())]
        for block in self.up[1:]:
            skip = skips.pop()
            i, j, k = skip.shape[2:]
            maps.append(block(torch.cat([resample(maps[-1], (i, j, k)), skip], dim=1)))
        return maps


class VectorFieldAttention(nn.Module):
    """One level: attention of fixed voxels to moving ones, whose values are their offsets.

    Args:
        channels: Number of feature maps of each scan.
        head: See ``VFA``.

    Attributes:
        scale: Voxels of the level that an offset of one voxel is worth; it is learned.
    """

    def __init__(self, channels: int, head: str) -> None:
        super().__init__()
        self.kind = check_kind(head)
        self.query = nn.Conv3d(channels, channels, kernel_size=1, bias=False)
        nn.init.zeros_(self.query.weight)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(
        self,
        fixed: Image,
        moving: Image,
        disp: Float[Tensor, "b 3 coarse_i coarse_j coarse_k"],
    ) -> Field:
        """Return the refined field on this level's grid, in its voxels, in float32.

        Args:
            fixed: Feature maps of the fixed image.
            moving: Feature maps of the moving image.
            disp: Field of the coarser level, in voxels of that level.
        """
        with torch.autocast(fixed.device.type, enabled=False):
            fixed, moving = fixed.float(), moving.float()
            i, j, k = fixed.shape[2:]
            disp = resize_field(disp, (i, j, k))
            offset = mean_offset(self.query(fixed), warp(moving, disp))
            return compose(disp, as_prediction(self.scale * offset, self.kind).disp)


def mean_offset(queries: Image, keys: Image) -> Field:
    """Return the mean offset to the 27 voxels around each position, weighted by attention.

    The weights are the softmax of the scaled dot products of the query with the keys; keys outside
    the volume are zero. Equal weights give exactly zero.

    Args:
        queries: Query of every fixed voxel.
        keys: Keys of the moving voxels, on the same grid.

    Returns:
        Offset in voxels, each component in [-1, 1].
    """
    scores = cost_volume(queries, keys, radius=1) * math.sqrt(queries.shape[1])
    attention = scores.softmax(dim=1).view(-1, 3, 3, 3, *scores.shape[2:])
    marginals = [attention.sum(dim=axes) for axes in ((2, 3), (1, 3), (1, 2))]
    return torch.stack([marginal[:, 2] - marginal[:, 0] for marginal in marginals], dim=1)
