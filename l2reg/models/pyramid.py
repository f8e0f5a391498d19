"""Registration by a feature pyramid and local correlation, coarse to fine.

After Gunnarsson, Sjölund and Schön ("Learning a Deformable Registration Pyramid", 2020) and
PWC-Net (Sun et al. 2018). Other than there, every level adds a *residual* deformation, by
composition; an affine map acts on positions, not on displacements; features are normalised before
they are compared (Jonschkowski et al. 2020), and nothing is normalised over a batch; the grids of
all levels have the same corners, so that one voxel of a level is two of the next finer one exactly.
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
from l2reg.models.blocks import ConvBlock
from l2reg.models.cost_volume import cost_volume
from l2reg.models.heads import FieldHead
from l2reg.models.prediction import Prediction
from l2reg.shapes import Field, Image, Maps, Shape3, WorkingGrid, as_working_grid


class Pyramid(nn.Module):
    """Estimates the deformation at the coarsest level and refines it at every finer one.

    Level 0 is the working grid, and every further level has voxels of twice the length.

    Args:
        features: Feature maps of levels 1, 2, ...; that of level 0 is the image itself.
        radius: Of the cost volume per level, in voxels of that level. One entry for each of
            ``features``, or one more in front: then level 0 has a field of its own, which is
            otherwise interpolated.
        estimator: Feature maps of each level's convolutions.
        dense: Whether each of those sees all maps before it.
        context: Feature maps and dilation of each convolution of the network that refines the field
            of level 1 once more; empty leaves it out.
        affine: Whether each level begins with an affine map.
        head: ``displacement``, ``velocity`` or ``gradient``: what residual fields are made from.
        grid: Working grid.
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
        self.encoder = Encoder(features)
        self.levels = nn.ModuleList()  # coarsest first
        for level in range(coarsest, finest - 1, -1):
            layers = PyramidLevel(
                [1, *features][level],
                inherited=0 if level == coarsest else inherited,
                passed_on=None if level == finest else inherited,
                radius=radius[level - finest],
                estimator=partial(FieldEstimator, widths=estimator, dense=dense),
                context=context if level == 1 else [],
                affine=affine,
                head=head,
            )
            self.levels.append(layers)

    def forward(self, batch: Batch) -> Prediction:
        """Return the field that brings ``batch["moving"]`` onto ``batch["fixed"]``."""
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


def halvable_shape(shape: Shape3, halvings: int) -> Shape3:
    """Return the smallest grid, not below ``shape``, that can be halved and keep its corners.

    Its sizes are one more than a multiple of ``2 ** halvings``: a convolution of stride 2 takes
    every second voxel, from the first to the last.
    """
    step = 2**halvings
    i, j, k = (1 + step * max(1, -(-(size - 1) // step)) for size in shape)
    return (i, j, k)


class Encoder(nn.Module):
    """Feature maps of one image at every level, the finest first; each has mean 0 and variance 1.

    Three convolutions a level, the first of stride 2.

    Args:
        features: Feature maps of levels 1, 2, ...
    """

    def __init__(self, features: Sequence[int]) -> None:
        super().__init__()
        self.halvings = len(features)
        self.steps = nn.ModuleList(
            nn.Sequential(
                NormalisedBlock(before, after, stride=2),
                NormalisedBlock(after, after),
                NormalisedBlock(after, after),
            )
            for before, after in zip([1, *features], features, strict=False)
        )

    def forward(self, image: Image) -> list[Tensor]:
        """Return the maps of levels 0, 1, ..., each ``(b, c, i, j, k)``."""
        maps = [F.instance_norm(image)]
        for step in self.steps:
            maps.append(step(maps[-1]))
        return maps


class NormalisedBlock(nn.Sequential):
    """A convolution whose activations are normalised over the volume."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__(
            ConvBlock(channels_in, channels_out, stride), nn.InstanceNorm3d(channels_out)
        )


class PyramidLevel(nn.Module):
    """Finds the motion that is left at one level.

    Args:
        channels: Feature maps of each image.
        inherited: Feature maps that come from the coarser level.
        radius: Of the cost volume.
        estimator: Makes the convolutions for as many feature maps as enter them.
        context, affine, head: See ``Pyramid``.
        last: Whether there is no finer level.
    """

    def __init__(
        self,
        channels: int,
        *,
        inherited: int,
        passed_on: int | None,
        radius: int,
        estimator: "Callable[[int], FieldEstimator]",
        context: Sequence[Sequence[int]],
        affine: bool,
        head: str,
    ) -> None:
        super().__init__()
        self.radius = radius
        self.affine = AffineHead(2 * channels) if affine else None
        entering = (2 * radius + 1) ** 3 + channels + 3 + inherited
        self.estimator = estimator(entering)
        self.head = FieldHead(head, self.estimator.channels)
        self.context = (
            ContextNetwork(self.estimator.channels + 3, context, head) if context else None
        )
        self.hand_down: nn.Module = nn.Identity()
        if passed_on is not None:
            channels_in = self.estimator.channels
            self.hand_down = nn.Conv3d(channels_in, passed_on, kernel_size=3, padding=1)

    def forward(
        self,
        fixed: Image,
        moving: Image,
        disp: Float[Tensor, "b 3 coarse_i coarse_j coarse_k"],
        inherited: Sequence[Float[Tensor, "b h coarse_i coarse_j coarse_k"]],
    ) -> tuple[Field, Maps]:
        """Refine a coarser grid's ``disp``, and return it with the maps for the next finer one."""
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
    """Convolutions one after the other, the last of which knows the motion.

    Args:
        channels: Feature maps that enter.
        widths: Feature maps of each convolution.
        dense: Whether each sees all that the one before it saw, besides what that one found.
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
        """Return what the last convolution found, and all that it saw if they are dense."""
        for block in self.blocks:
            found = block(maps)
            maps = torch.cat([found, maps], dim=1) if self.dense else found
        return maps


class ContextNetwork(nn.Module):
    """Dilated convolutions that see far, and the residual field that they find.

    Args:
        channels: Feature maps that enter, the field so far among them.
        layers: Feature maps and dilation of each convolution.
        head: What the residual is made from.
    """

    def __init__(self, channels: int, layers: Sequence[Sequence[int]], head: str) -> None:
        super().__init__()
        self.blocks = nn.Sequential()
        for width, dilation in layers:
            self.blocks.append(ConvBlock(channels, width, dilation=dilation))
            channels = width
        self.head = FieldHead(head, channels)

    def forward(self, maps: Image) -> Field:
        """Return the residual field."""
        i, j, k = maps.shape[2:]
        disp: Field = self.head(self.blocks(maps), (i, j, k)).disp
        return disp
