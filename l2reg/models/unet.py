"""U-Net on the stacked pair, after VoxelMorph (Balakrishnan et al. 2019, Dalca et al. 2019)."""

from collections.abc import Sequence

import torch
from torch import nn

from l2reg.batch import Batch
from l2reg.geometry.resize import resample
from l2reg.models.blocks import ConvBlock, crop_prediction, pad_to_halvable
from l2reg.models.heads import FieldHead
from l2reg.models.prediction import Prediction
from l2reg.shapes import WorkingGrid, as_working_grid


class UNet(nn.Module):
    """U-Net with early fusion: the channels of both images are those of one input volume.

    The encoder halves the grid at every level but the first. The decoder doubles it by linear
    interpolation, with skip connections, once for each of its entries. If these are fewer than the
    halvings, the field is estimated on a coarser grid and interpolated, as with VoxelMorph's
    ``int_downsize``. The grids of all levels have the same corners.

    Args:
        encoder: Number of feature maps per level, finest first.
        decoder: Number of feature maps per level, coarsest first; one entry less than ``encoder``
            at most.
        final: Number of feature maps of each further convolution on the last decoder level's grid.
        head: Kind of the field head: ``displacement``, ``velocity`` or ``gradient``.
        grid: Working grid.
        scan_channels: Number of channels of each scan.
    """

    def __init__(
        self,
        encoder: Sequence[int],
        decoder: Sequence[int],
        final: Sequence[int],
        head: str,
        grid: WorkingGrid,
        scan_channels: int = 1,  # checkpoints of earlier builds have no such key
    ) -> None:
        super().__init__()
        if not 0 < len(decoder) < len(encoder):
            raise ValueError(
                "decoder must have at least one level, and fewer levels than encoder\n"
                f"  encoder  {list(encoder)}\n"
                f"  decoder  {list(decoder)}"
            )
        self.grid = as_working_grid(grid)
        widths = [2 * scan_channels, *encoder]
        self.down = nn.ModuleList(
            ConvBlock(widths[level], width, stride=1 if level == 0 else 2)
            for level, width in enumerate(encoder)
        )
        self.up = nn.ModuleList()
        channels = encoder[-1]
        for width, skip in zip(decoder, reversed(encoder[:-1]), strict=False):
            self.up.append(ConvBlock(channels + skip, width))
            channels = width
        self.final = nn.Sequential()
        for width in final:
            self.final.append(ConvBlock(channels, width))
            channels = width
        self.head = FieldHead(head, channels)
        self.halvings = len(encoder) - 1
        self.min_size = 2**self.halvings

    def forward(self, batch: Batch) -> Prediction:
        """Return the field that aligns ``batch["moving"]`` with ``batch["fixed"]``."""
        pair = torch.cat([batch["fixed"], batch["moving"]], dim=1)
        i, j, k = pair.shape[2:]
        features = pad_to_halvable(pair, self.halvings)
        padded_i, padded_j, padded_k = features.shape[2:]
        skips = []
        for block in self.down:
            features = block(features)
            skips.append(features)
        skips.pop()
        for block in self.up:
            skip = skips.pop()
            si, sj, sk = skip.shape[2:]
            features = block(torch.cat([resample(features, (si, sj, sk)), skip], dim=1))
        prediction = self.head(self.final(features), (padded_i, padded_j, padded_k))
        return crop_prediction(prediction, (i, j, k))
