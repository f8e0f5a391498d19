"""A U-Net whose encoder sees each image alone (Estienne et al. 2020, 2021).

"Deep learning-based concurrent brain registration and tumor segmentation", Frontiers 2020, and
"Deep learning based registration using spatial gradients and noisy segmentation labels", 2021.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from l2reg.batch import Batch
from l2reg.models.blocks import crop, crop_prediction, halve_shape, pad_to_multiple
from l2reg.models.heads import FieldHead, resize_prediction
from l2reg.models.prediction import Prediction
from l2reg.shapes import Image, Maps, OneHot, WorkingGrid, as_working_grid

MERGES = ("subtract", "concat", "sum")


class SiameseUNet(nn.Module):
    """One encoder for both images; the decoder sees their merged feature maps at every level.

    In training every coarser level of the decoder has a field of its own, from its input.

    Args:
        encoder: Feature maps per level, finest first; every further level halves the grid.
        convolutions: How many of them each level but the first has, in encoder and decoder.
        merge: ``subtract`` (moving minus fixed), ``concat`` or ``sum``.
        slope: Of the activations below 0: 0 is ReLU.
        residual: Whether a decoder level adds its output to the up-sampled input.
        joint: Labels that a second decoder segments in each scan, in training; ``None`` for none.
        head: ``displacement``, ``velocity`` or ``gradient``.
        grid: Working grid.
    """

    def __init__(
        self,
        encoder: Sequence[int],
        convs_per_level: Sequence[int],
        merge: str,
        negative_slope: float,
        residual: bool,
        segmentation_labels: int | None,
        head: str,
        grid: WorkingGrid,
    ) -> None:
        super().__init__()
        if len(convs_per_level) != len(encoder) - 1:
            raise ValueError(
                "convolutions must have one entry for each level of encoder but the first\n"
                f"  encoder       {list(encoder)}\n"
                f"  convolutions  {list(convs_per_level)}"
            )
        if merge not in MERGES:
            raise ValueError(f"merge must be one of {', '.join(MERGES)}, got {merge!r}")
        self.grid = as_working_grid(grid)
        self.merge = merge
        self.stride = 2 ** len(convs_per_level)
        steps = list(zip(encoder, encoder[1:], convs_per_level, strict=False))
        self.enter = InputBlock(encoder[0], negative_slope)
        self.down = nn.ModuleList(
            Down(fine, coarse, n, negative_slope) for fine, coarse, n in steps
        )
        both = 2 if merge == "concat" else 1
        self.up = nn.ModuleList()
        self.level_heads = nn.ModuleList()
        channels = both * encoder[-1]
        for fine, _, n in reversed(steps):
            self.level_heads.append(FieldHead(head, channels))
            self.up.append(
                Up(channels, both * fine, fine, n, negative_slope=negative_slope, residual=residual)
            )
            channels = fine
        self.head = FieldHead(head, channels)
        self.segmenter: Segmenter | None = None
        if segmentation_labels is not None:
            up = (
                Up(coarse, fine, fine, n, negative_slope=negative_slope, residual=residual)
                for fine, coarse, n in reversed(steps)
            )
            self.segmenter = Segmenter(
                up, nn.Conv3d(encoder[0], segmentation_labels + 1, 3, padding=1)
            )

    def forward(self, batch: Batch) -> Prediction:
        """Return the field that brings ``batch["moving"]`` onto ``batch["fixed"]``."""
        i, j, k = batch["fixed"].shape[2:]
        images = torch.cat([batch["fixed"], batch["moving"]])
        maps = [self.enter(pad_to_multiple(images, self.stride))]
        for block in self.down:
            maps.append(block(maps[-1]))
        merged = [self._merged(*level.chunk(2)) for level in maps]
        features = merged.pop()
        inputs = []  # of the decoder's levels, coarsest first
        for block in self.up:
            inputs.append(features)
            features = block(features, merged.pop())
        padded_i, padded_j, padded_k = features.shape[2:]
        padded = (padded_i, padded_j, padded_k)
        prediction = crop_prediction(self.head(features, padded), (i, j, k))
        if not self.training:
            return prediction
        deep = [head(maps, padded) for head, maps in zip(self.level_heads, inputs, strict=True)]
        levels = [
            resize_prediction(crop_prediction(level, (i, j, k)), halve_shape((i, j, k), times))
            for times, level in enumerate(reversed(deep), start=1)
        ]
        if self.segmenter is None:
            return replace(prediction, levels=tuple(levels))
        fixed, moving = crop(self.segmenter(maps), (i, j, k)).chunk(2)
        return replace(prediction, levels=tuple(levels), segmentations=(fixed, moving))

    def _merged(self, fixed: Image, moving: Image) -> Maps:
        if self.merge == "concat":
            return torch.cat([moving, fixed], dim=1)
        return moving - fixed if self.merge == "subtract" else moving + fixed


class InputBlock(nn.Module):
    """Two convolutions without normalisation, their outputs added up."""

    def __init__(self, channels: int, negative_slope: float) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv3d(1, channels, 3, padding=1), nn.LeakyReLU(negative_slope)
        )
        self.second = nn.Sequential(
            nn.Conv3d(channels, channels, 3, padding=1), nn.LeakyReLU(negative_slope)
        )

    def forward(self, image: Image) -> Maps:
        """Return feature maps on the grid of ``image``."""
        maps = self.first(image)
        summed: Maps = maps + self.second(maps)
        return summed


class Down(nn.Sequential):
    """A convolution that halves the grid, and ``n`` more on the coarser one."""

    def __init__(self, channels_in: int, channels_out: int, n: int, negative_slope: float) -> None:
        super().__init__(
            *_normalised(nn.Conv3d(channels_in, channels_out, 2, stride=2), negative_slope),
            *_convolutions(channels_out, channels_out, n, negative_slope),
        )


class Up(nn.Module):
    """A transposed convolution that doubles the grid, and ``n`` convolutions with the skip's maps.

    Args:
        channels_in: Feature maps that enter.
        skip: Feature maps of the encoder's level.
        channels_out: Feature maps that leave.
        n: Number of convolutions.
        slope: See ``SiameseUNet``.
        residual: Whether the up-sampled maps are added to what the convolutions return.
    """

    def __init__(
        self,
        channels_in: int,
        skip: int,
        channels_out: int,
        n: int,
        *,
        negative_slope: float,
        residual: bool,
    ) -> None:
        super().__init__()
        transposed = nn.ConvTranspose3d(channels_in, channels_out, 2, stride=2)
        self.enlarge = nn.Sequential(*_normalised(transposed, negative_slope))
        self.convolve = nn.Sequential(
            *_convolutions(channels_out + skip, channels_out, n, negative_slope)
        )
        self.residual = residual

    def forward(self, maps: Float[Tensor, "b coarse half_i half_j half_k"], skip: Image) -> Maps:
        """Return feature maps on the grid of ``skip``."""
        enlarged = self.enlarge(maps)
        convolved: Maps = self.convolve(torch.cat([enlarged, skip], dim=1))
        return enlarged + convolved if self.residual else convolved


class Segmenter(nn.Module):
    """The second decoder, which sees each scan's own maps (Estienne et al. 2020).

    Args:
        up: Its levels, coarsest first.
        last: From maps to logits.
    """

    def __init__(self, up: Iterable[Up], last: nn.Conv3d) -> None:
        super().__init__()
        self.up = nn.ModuleList(up)
        self.last = last

    def forward(self, maps: Sequence[Tensor]) -> OneHot:
        """Return the logits of an encoder's maps, which come finest first."""
        features = maps[-1]
        for block, skip in zip(self.up, reversed(maps[:-1]), strict=True):
            features = block(features, skip)
        logits: OneHot = self.last(features)
        return logits


def _convolutions(
    channels_in: int, channels_out: int, n: int, negative_slope: float
) -> list[nn.Module]:
    layers = []
    for _ in range(n):
        layers += _normalised(nn.Conv3d(channels_in, channels_out, 3, padding=1), negative_slope)
        channels_in = channels_out
    return layers


def _normalised(
    convolution: nn.Conv3d | nn.ConvTranspose3d, negative_slope: float
) -> list[nn.Module]:
    return [convolution, nn.InstanceNorm3d(convolution.out_channels), nn.LeakyReLU(negative_slope)]
