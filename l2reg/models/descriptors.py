"""Descriptors: a network that describes every voxel by the anatomy around it.

It is trained on synthetic anatomy (``phantom/views.py``) such that two scans of one anatomy have
equal descriptors, whatever their contrast. Learning features of all contrasts from random shapes
follows SynthMorph (Hoffmann et al. 2021) and anatomix (Dey et al. 2024).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from l2reg.batch import Batch
from l2reg.geometry.resize import resample
from l2reg.models.blocks import crop, pad_to_halvable
from l2reg.shapes import Image, Maps

LevelMaps = Float[Tensor, "b m _i _j _k"]  # of one of several levels
HalfMaps = Float[Tensor, "b m half_i half_j half_k"]  # on every second voxel, the first included


@dataclass(frozen=True)
class ViewDescriptors:
    """Descriptors of both scans of a pair, on several grids with the same corners.

    Attributes:
        fixed: Maps of the fixed scan, finest first: on every second voxel, every fourth and so on.
            Interpolated at a point, and scaled to unit length, they are its descriptor.
        moving: Those of the moving scan.
    """

    fixed: Sequence[LevelMaps]
    moving: Sequence[LevelMaps]


class DescriptorNetwork(nn.Module):
    """U-Net from one scan to descriptors on the half grid.

    Each level has two convolutions and instance normalisation on the way down, and two on the way
    up. A stem of stride 2 leads to the first level; means over three voxels halve the grid, and
    linear interpolation doubles it, so that the grids of all levels have the same corners.

    Args:
        widths: Number of feature maps per level, finest first.
        channels: Number of channels of a descriptor.
        levels: Number of levels whose descriptors are trained; those of the first are used.
    """

    def __init__(self, widths: Sequence[int], channels: int, levels: int) -> None:
        super().__init__()
        if not 1 <= levels < len(widths):
            raise ValueError(
                f"levels must be from 1 to {len(widths) - 1}, one less than widths, got {levels}"
            )
        self.stem = _NormalisedConv(1, widths[0], stride=2)
        self.down = nn.ModuleList(
            _TwoConvs(widths[max(0, level - 1)], width) for level, width in enumerate(widths)
        )
        self.up = nn.ModuleList(
            _TwoConvs(width + below, width)
            for width, below in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.heads = nn.ModuleList(nn.Conv3d(width, channels, 1) for width in widths[:levels])
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # faster

    @property
    def halvings(self) -> int:
        """Number of times that the coarsest level halves the grid of the scan."""
        return len(self.down)

    def describe(self, image: Image) -> Maps:
        """Return the descriptors of a scan, interpolated linearly from the half grid to its own.

        Gain and offset of the intensities have no influence.

        Args:
            image: Scan, of any intensities.

        Returns:
            Channels of unit length.
        """
        level = self._decode(pad_to_halvable(image, self.halvings))[0]
        maps = self.heads[0](level).float()
        i, j, k = (2 * size - 1 for size in maps.shape[2:])
        return F.normalize(crop(resample(maps, (i, j, k)), image.shape[2:]), dim=1)

    def forward(self, batch: Batch) -> ViewDescriptors:
        """Return the descriptors of both scans of all trained levels."""
        n_pairs = len(batch["fixed"])
        images = torch.cat([batch["fixed"], batch["moving"]])
        padded = pad_to_halvable(images, self.halvings)
        decoded = self._decode(padded)
        maps = [head(level).float() for head, level in zip(self.heads, decoded, strict=False)]
        return ViewDescriptors([m[:n_pairs] for m in maps], [m[n_pairs:] for m in maps])

    def _decode(self, padded: Image) -> list[Tensor]:
        """Return the maps of all levels but the coarsest, finest first."""
        mean = padded.mean(dim=(2, 3, 4), keepdim=True)
        deviation = padded.std(dim=(2, 3, 4), keepdim=True)
        maps = self.stem((padded - mean) / deviation.clamp(min=1e-6))
        skips = []
        for level, block in enumerate(self.down):
            maps = block(maps if level == 0 else _halve(maps))
            skips.append(maps)
        decoded = []
        maps = skips.pop()
        for block in self.up:
            skip = skips.pop()
            i, j, k = skip.shape[2:]
            maps = block(torch.cat([resample(maps, (i, j, k)), skip], dim=1))
            decoded.append(maps)
        return decoded[::-1]


class _NormalisedConv(nn.Sequential):
    """3x3x3 convolution, instance normalisation and a LeakyReLU of slope 0.2."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv3d(
                channels_in, channels_out, 3, stride, 1, padding_mode="replicate", bias=False
            ),
            nn.InstanceNorm3d(channels_out, affine=True),
            nn.LeakyReLU(0.2, inplace=True),
        )


class _TwoConvs(nn.Sequential):
    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(
            _NormalisedConv(channels_in, channels_out),
            _NormalisedConv(channels_out, channels_out),
        )


def _halve(maps: Maps) -> HalfMaps:
    """Return the mean over three voxels along each axis, at every second voxel."""
    return F.avg_pool3d(maps, 3, stride=2, padding=1, count_include_pad=False)
