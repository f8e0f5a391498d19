"""Siamese U-Net: one encoder for each image of a pair by itself (Estienne et al. 2020, 2021).

"Deep learning-based concurrent brain registration and tumor segmentation", Frontiers 2020, and
"Deep learning based registration using spatial gradients and noisy segmentation labels", 2021. The
grids of all levels have the same corners (``blocks.HalvingConv``), which theirs have not.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from l2reg.batch import Batch
from l2reg.models.blocks import (
    DoublingConv,
    HalvingConv,
    crop,
    crop_prediction,
    halve_shape,
    pad_to_halvable,
)
from l2reg.models.heads import FieldHead, resize_prediction
from l2reg.models.prediction import Prediction
from l2reg.shapes import Image, Maps, OneHot, WorkingGrid, as_working_grid

MERGES = ("subtract", "concat", "sum")


class SiameseUNet(nn.Module):
    """U-Net with an encoder of shared weights, and a decoder of the images' merged feature maps.

    In training a field is also predicted from the input of every decoder level, for deep
    supervision.

    Args:
        encoder: Number of feature maps per level, finest first; every further level halves the
            grid.
        convs_per_level: Number of convolutions of each level but the finest, in encoder and
            decoder, finest first.
        merge: How the images' feature maps are merged at every level: ``subtract`` (moving minus
            fixed), ``concat`` or ``sum``.
        negative_slope: Slope of the activations below 0; 0 for ReLU.
        residual: Whether a decoder level adds its output to its up-sampled input.
        segmentation_labels: Number of labels that a second decoder segments in each scan in
            training; ``None`` for no second decoder.
        head: Kind of the field head: ``displacement``, ``velocity`` or ``gradient``.
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
                "convs_per_level must have one entry for each level of encoder but the first\n"
                f"  encoder          {list(encoder)}\n"
                f"  convs_per_level  {list(convs_per_level)}"
            )
        if merge not in MERGES:
            raise ValueError(f"merge must be one of {', '.join(MERGES)}, got {merge!r}")
        self.grid = as_working_grid(grid)
        self.merge = merge
        self.halvings = len(convs_per_level)
        self.min_size = 2**self.halvings
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
        """Return the field that aligns ``batch["moving"]`` with ``batch["fixed"]``."""
        i, j, k = batch["fixed"].shape[2:]
        images = torch.cat([batch["fixed"], batch["moving"]])
        maps = [self.enter(pad_to_halvable(images, self.halvings))]
        for block in self.down:
            maps.append(block(maps[-1]))
        merged = [self._merge(*level.chunk(2)) for level in maps]
        features = merged.pop()
        inputs = []  # one per decoder level, coarsest first
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

    def _merge(self, fixed: Image, moving: Image) -> Maps:
        if self.merge == "concat":
            return torch.cat([moving, fixed], dim=1)
        return moving - fixed if self.merge == "subtract" else moving + fixed


class InputBlock(nn.Module):
    """Two successive convolutions without normalisation, whose outputs are summed."""

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
    """Encoder level: a convolution that halves the grid, and ``n`` more on the coarser grid."""

    def __init__(self, channels_in: int, channels_out: int, n: int, negative_slope: float) -> None:
        super().__init__(
            *_with_normalisation(HalvingConv(channels_in, channels_out), negative_slope),
            *_convolutions(channels_out, channels_out, n, negative_slope),
        )


class Up(nn.Module):
    """Decoder level: a transposed convolution that doubles the grid, and ``n`` convolutions.

    The convolutions take the up-sampled maps and those of the skip connection.

    Args:
        channels_in: Number of input channels.
        skip: Number of feature maps of the skip connection.
        channels_out: Number of output channels.
        n: Number of convolutions.
        negative_slope: See ``SiameseUNet``.
        residual: Whether the up-sampled maps are added to the output of the convolutions.
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
        transposed = DoublingConv(channels_in, channels_out)
        self.enlarge = nn.Sequential(*_with_normalisation(transposed, negative_slope))
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
    """Segmentation decoder on the feature maps of each scan by itself (Estienne et al. 2020).

    Args:
        up: Levels of the decoder, coarsest first.
        last: Convolution from feature maps to logits.
    """

    def __init__(self, up: Iterable[Up], last: nn.Conv3d) -> None:
        super().__init__()
        self.up = nn.ModuleList(up)
        self.last = last

    def forward(self, maps: Sequence[Tensor]) -> OneHot:
        """Return the logits of the labels from the encoder's maps, which come finest first."""
        features = maps[-1]
        for block, skip in zip(self.up, reversed(maps[:-1]), strict=True):
            features = block(features, skip)
        logits: OneHot = self.last(features)
        return logits


def _convolutions(
    channels_in: int, channels_out: int, n: int, negative_slope: float
) -> list[nn.Module]:
    """Return ``n`` convolutions with normalisation and activation."""
    layers = []
    for _ in range(n):
        convolution = nn.Conv3d(channels_in, channels_out, 3, padding=1)
        layers += _with_normalisation(convolution, negative_slope)
        channels_in = channels_out
    return layers


def _with_normalisation(
    convolution: nn.Conv3d | nn.ConvTranspose3d, negative_slope: float
) -> list[nn.Module]:
    """Return the layers: convolution, instance normalisation, leaky ReLU."""
    return [convolution, nn.InstanceNorm3d(convolution.out_channels), nn.LeakyReLU(negative_slope)]
