"""Registration pyramid: residual fields from local correlation of features, coarse to fine.

After Gunnarsson, Sjölund and Schön ("Learning a Deformable Registration Pyramid", 2020) and
PWC-Net (Sun et al. 2018). Four things differ from these papers. Every level adds a *residual*
deformation, by composition. An affine map acts on positions, not on displacements. Features are
normalised before they are compared (Jonschkowski et al. 2020), and nothing is normalised over a
batch. The grids of all levels have the same corners, so that one voxel of a level is exactly two
voxels of the next finer one.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from l2reg.batch import Batch
from l2reg.geometry.compose import compose
from l2reg.geometry.resize import resample, resize_field
from l2reg.geometry.warp import warp
from l2reg.models.affine_head import AffineHead
from l2reg.models.blocks import ConvBlock, halvable_shape
from l2reg.models.cost_volume import cost_volume
from l2reg.models.heads import FieldHead
from l2reg.models.prediction import Prediction
from l2reg.shapes import Field, Image, Maps, WorkingGrid, as_working_grid


class Pyramid(nn.Module):
    """Estimates the deformation at the coarsest level and refines it at every finer one.

    Level 0 is the working grid, and every further level has voxels of twice the length.

    Args:
        features: Number of feature maps of levels 1, 2, ...; that of level 0 is the image itself.
        radius: Radius of the cost volume of each level, in voxels of that level, finest first.
            One entry for each of ``features``, or one more in front for level 0, whose field is
            otherwise interpolated.
        estimator: Number of feature maps of each convolution of a level's field estimator.
        inherited: Number of feature maps that a level passes to the next finer one.
        dense: Whether each convolution of an estimator takes the outputs of all earlier ones.
        context: Number of feature maps and dilation of each convolution of the context network,
            which refines the field of level 1 once more; an empty list leaves it out.
        affine: Whether each level first estimates an affine map.
        head: Quantity that residual fields are made from: ``displacement``, ``velocity`` or
            ``gradient``.
        grid: Working grid.
        scan_channels: Number of channels of each scan.
    """

    def __init__(
        self,
        features: Sequence[int],
        radius: Sequence[int],
        estimator: Sequence[int],
        inherited: int,
        dense: bool,
        context: Sequence[Sequence[int]],
        affine: bool,
        head: str,
        grid: WorkingGrid,
        scan_channels: int = 1,  # checkpoints of earlier builds have no such key
    ) -> None:
        super().__init__()
        coarsest = len(features)
        finest = coarsest + 1 - len(radius)
        if not features or finest not in (0, 1):
            raise ValueError(
                "radius must have one entry for each of features, or one more\n"
                f"  features  {list(features)}\n"
                f"  radius    {list(radius)}"
            )
        self.grid = as_working_grid(grid)
        self.encoder = Encoder(features, scan_channels)
        self.min_size = 2**self.encoder.halvings
        self.levels = nn.ModuleList()  # coarsest first
        for level in range(coarsest, finest - 1, -1):
            layers = PyramidLevel(
                [scan_channels, *features][level],
                inherited=0 if level == coarsest else inherited,
                output_maps=None if level == finest else inherited,
                radius=radius[level - finest],
                estimator=partial(FieldEstimator, widths=estimator, dense=dense),
                context=context if level == 1 else [],
                affine=affine,
                head=head,
            )
            self.levels.append(layers)

    def forward(self, batch: Batch) -> Prediction:
        """Return the field that aligns ``batch["moving"]`` with ``batch["fixed"]``."""
        i, j, k = batch["fixed"].shape[2:]
        pair = torch.cat([batch["fixed"], batch["moving"]]).float()
        pyramid = self.encoder(resample(pair, halvable_shape((i, j, k), self.encoder.halvings)))
        disp = pair.new_zeros(len(pair) // 2, 3, 2, 2, 2)
        inherited: list[Tensor] = []
        fields = []
        for features, level in zip(reversed(pyramid), self.levels, strict=False):
            fixed, moving = features.chunk(2)
            disp, maps = level(fixed, moving, disp, inherited)
            inherited = [maps]
            fields.append(disp)
        coarser = tuple(Prediction(field) for field in reversed(fields[:-1]))
        return Prediction(resize_field(disp, (i, j, k)), levels=coarser if self.training else ())


class Encoder(nn.Module):
    """Feature pyramid of one image: maps of mean 0 and variance 1 at every level.

    Every level from 1 on has three convolutions, the first of stride 2.

    Args:
        features: Number of feature maps of levels 1, 2, ...
        channels: Number of channels of the image.
    """

    def __init__(self, features: Sequence[int], channels: int = 1) -> None:
        super().__init__()
        self.halvings = len(features)
        self.steps = nn.ModuleList(
            nn.Sequential(
                NormalisedBlock(before, after, stride=2),
                NormalisedBlock(after, after),
                NormalisedBlock(after, after),
            )
            for before, after in zip([channels, *features], features, strict=False)
        )

    def forward(self, image: Image) -> list[Tensor]:
        """Return the maps of levels 0, 1, ..., finest first, each ``(b, c, i, j, k)``."""
        maps = [F.instance_norm(image)]
        for step in self.steps:
            maps.append(step(maps[-1]))
        return maps


class NormalisedBlock(nn.Sequential):
    """A convolution with activation, followed by instance normalisation."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__(
            ConvBlock(channels_in, channels_out, stride), nn.InstanceNorm3d(channels_out)
        )


class PyramidLevel(nn.Module):
    """One level of the pyramid: estimates the motion that remains after the coarser levels.

    Args:
        channels: Number of feature maps of each image.
        inherited: Number of feature maps from the coarser level; 0 at the coarsest level.
        output_maps: Number of feature maps for the next finer level; ``None`` at the finest level.
        radius: Radius of the cost volume, in voxels of the level.
        estimator: Function that makes the field estimator for a number of input channels.
        context: See ``Pyramid``; an empty list for no context network.
        affine: See ``Pyramid``.
        head: See ``Pyramid``.
    """

    def __init__(
        self,
        channels: int,
        *,
        inherited: int,
        output_maps: int | None,
        radius: int,
        estimator: "Callable[[int], FieldEstimator]",
        context: Sequence[Sequence[int]],
        affine: bool,
        head: str,
    ) -> None:
        super().__init__()
        self.radius = radius
        self.affine = AffineHead(2 * channels) if affine else None
        input_channels = (2 * radius + 1) ** 3 + channels + 3 + inherited
        self.estimator = estimator(input_channels)
        self.head = FieldHead(head, self.estimator.channels)
        self.context = (
            ContextNetwork(self.estimator.channels + 3, context, head) if context else None
        )
        self.hand_down: nn.Module = nn.Identity()
        if output_maps is not None:
            channels_in = self.estimator.channels
            self.hand_down = nn.Conv3d(channels_in, output_maps, kernel_size=3, padding=1)

    def forward(
        self,
        fixed: Image,
        moving: Image,
        disp: Float[Tensor, "b 3 coarse_i coarse_j coarse_k"],
        inherited: Sequence[Float[Tensor, "b h coarse_i coarse_j coarse_k"]],
    ) -> tuple[Field, Maps]:
        """Return the refined field on this level's grid, and the maps for the next finer level.

        Args:
            fixed: Feature maps of the fixed image.
            moving: Feature maps of the moving image.
            disp: Field of the coarser level, in voxels of that level.
            inherited: Feature maps of the coarser level; empty at the coarsest level.
        """
        i, j, k = fixed.shape[2:]
        shape = (i, j, k)
        disp = resize_field(disp, shape)
        if self.affine is not None:
            disp = compose(disp, self.affine(fixed, warp(moving, disp)))
        costs = F.leaky_relu(cost_volume(fixed, warp(moving, disp), self.radius), 0.1)
        maps = self.estimator(
            torch.cat([costs, fixed, disp, *(resample(m, shape) for m in inherited)], dim=1)
        )
        disp = compose(disp, self.head(maps, shape).disp)
        if self.context is not None:
            disp = compose(disp, self.context(torch.cat([maps, disp], dim=1)))
        return disp, self.hand_down(maps)


class FieldEstimator(nn.Module):
    """A sequence of convolutions whose last feature maps encode the residual motion.

    Args:
        channels: Number of input channels.
        widths: Number of feature maps of each convolution.
        dense: Whether each convolution takes its predecessor's inputs besides the outputs.

    Attributes:
        channels: Number of output channels.
    """

    def __init__(self, channels: int, widths: Sequence[int], *, dense: bool) -> None:
        super().__init__()
        self.dense = dense
        self.blocks = nn.ModuleList()
        for width in widths:
            self.blocks.append(ConvBlock(channels, width))
            channels = width + (channels if dense else 0)
        self.channels = channels

    def forward(self, maps: Image) -> Maps:
        """Return the last convolution's maps, concatenated with its inputs if ``dense``."""
        for block in self.blocks:
            outputs = block(maps)
            maps = torch.cat([outputs, maps], dim=1) if self.dense else outputs
        return maps


class ContextNetwork(nn.Module):
    """Context network: dilated convolutions of a large receptive field, and a residual field.

    Args:
        channels: Number of input channels, including the field so far.
        layers: Number of feature maps and dilation of each convolution.
        head: Kind of the field head, see ``Pyramid``.
    """

    def __init__(self, channels: int, layers: Sequence[Sequence[int]], head: str) -> None:
        super().__init__()
        self.blocks = nn.Sequential()
        for width, dilation in layers:
            self.blocks.append(ConvBlock(channels, width, dilation=dilation))
            channels = width
        self.head = FieldHead(head, channels)

    def forward(self, maps: Image) -> Field:
        """Return the residual field, in voxels."""
        i, j, k = maps.shape[2:]
        disp: Field = self.head(self.blocks(maps), (i, j, k)).disp
        return disp
