"""LapIRN: Laplacian pyramid registration, optionally with the smoothness as an input.

LapIRN (Mok and Chung, "Large Deformation Diffeomorphic Image Registration with Laplacian Pyramid
Networks", 2020) and its conditional variant ("Conditional Deformable Image Registration with
Convolutional Neural Network", 2021). Two things differ from the papers: a level warps the moving
image of its own resolution, and the grids of all levels have the same corners
(``blocks.DoublingConv``), unlike in the authors' code, whose pyramid ``published_pyramid`` brings
back for weights that were trained with it.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from l2reg.batch import Batch
from l2reg.geometry.constants import constant
from l2reg.geometry.resize import resample, resize_field, resize_image
from l2reg.geometry.warp import warp
from l2reg.models.blocks import crop_prediction, halve_shape, pad_to_halvable, pad_to_multiple
from l2reg.models.heads import as_prediction, check_kind, resize_prediction
from l2reg.models.lapirn_level import LapIRNLevel
from l2reg.models.prediction import Prediction
from l2reg.shapes import Field, Image, PerPair, Shape3, WorkingGrid, as_working_grid

LevelImage = Float[Tensor, "b c level_i level_j level_k"]
FinerField = Float[Tensor, "b 3 finer_i finer_j finer_k"]


class LapIRN(nn.Module):
    """Laplacian pyramid network: one small network per level, which adds to the coarser field.

    The networks of all levels are equal. Each takes the moving image warped by the coarser field,
    so that it estimates the remaining motion.

    Args:
        width: Number of feature maps of the residual blocks, and of every layer unless
            ``encoder_width`` is another number.
        blocks: Number of residual blocks per level.
        hidden: Number of units of the layers that convert the smoothness to scales and shifts.
        max_displacement: Largest component that one level adds, as a fraction of half the volume.
        smoothness: Factor of the smoothness weight that fields are predicted for at test time;
            ``None`` for a network without this input. In training it is drawn for each pair.
        max_smoothness: Largest factor of the smoothness weight that is drawn in training.
        stages: Fractions of all training steps after which the next finer level is added, coarsest
            first; one entry per level, none smaller than the one before, of which the last alone is
            1.0.
        freeze: Fraction of all training steps for which the coarser levels are frozen after a finer
            one is added.
        head: Quantity that the levels' outputs add up to: ``displacement``, ``velocity`` or
            ``gradient``.
        grid: Working grid.
        encoder_width: Number of feature maps of every level's encoder, and of the maps that the
            finest level's decoder takes from the residual blocks; ``None`` for ``width``.
        published_pyramid: Whether images are averaged over three voxels at every second voxel, and
            fields and feature maps enlarged with the outer faces of the voxels aligned
            (``align_corners=False``), as in the authors' code.
    """

    def __init__(
        self,
        width: int,
        blocks: int,
        hidden: int,
        max_displacement: float,
        smoothness: float | None,
        max_smoothness: float,
        stages: Sequence[float],
        freeze: float,
        head: str,
        grid: WorkingGrid,
        encoder_width: int | None = None,  # defaults for the checkpoints without these keys
        published_pyramid: bool = False,
    ) -> None:
        super().__init__()
        decreases = any(a > b for a, b in pairwise([0.0, *stages]))
        if decreases or [stage for stage in stages if stage >= 1] != [1.0]:
            raise ValueError(
                f"stages must not decrease, and the last alone be 1.0, got {list(stages)}"
            )
        if smoothness is not None and not 0 <= smoothness <= max_smoothness:
            raise ValueError(
                f"smoothness must be null or 0 to {max_smoothness:g}, got {smoothness}"
            )
        self.grid = as_working_grid(grid)
        self.max_displacement = max_displacement
        self.smoothness = smoothness
        self.max_smoothness = max_smoothness
        self.stages = list(stages)
        self.min_size = 2 ** len(stages)
        self.freeze = freeze
        self.head = check_kind(head)
        self.published_pyramid = published_pyramid
        encoder_width = width if encoder_width is None else encoder_width
        finest = len(stages) - 1
        self.levels = nn.ModuleList(
            LapIRNLevel(
                2 if level == 0 else 5,
                encoder_width=encoder_width,
                width=width,
                enlarged_width=encoder_width if level == finest else width,
                blocks=blocks,
                hidden=None if smoothness is None else hidden,
                same_corners=not published_pyramid,
            )
            for level in range(len(stages))
        )
        self.in_use = len(stages)  # number of levels, from the coarsest, that training uses

    def set_progress(self, progress: float) -> None:
        """Choose the levels that are used and trained after this fraction of all steps."""
        newest = sum(end <= progress for end in self.stages)
        begun = self.stages[newest - 1] if newest else 0.0
        for n, level in enumerate(self.levels):
            coarser_are_trained = n < newest and progress >= begun + self.freeze
            level.requires_grad_(n == newest or coarser_are_trained)
        self.in_use = newest + 1

    def forward(self, batch: Batch) -> Prediction:
        """Return the field that aligns ``batch["moving"]`` with ``batch["fixed"]``.

        All levels are used at test time: a level that has not been trained yet adds zeros.
        """
        i, j, k = batch["fixed"].shape[2:]
        pair = torch.cat([batch["fixed"], batch["moving"]]).float()
        if self.published_pyramid:
            pair = pad_to_multiple(pair, 2 ** len(self.levels))
        else:
            pair = pad_to_halvable(pair, len(self.levels))
        padded = halve_shape(pair.shape[2:], 0)
        factor = self._smoothness(batch["fixed"])
        condition = None if factor is None else factor / self.max_smoothness
        total, embedding = None, None
        for level in range(self.in_use if self.training else len(self.levels)):
            halvings = len(self.levels) - 1 - level
            shape = halve_shape(padded, halvings)
            fixed, moving = self._shrink(pair, halvings).chunk(2)
            inputs = [moving, fixed]
            if total is not None:
                total, disp = self._enlarge(total, shape)
                inputs = [warp(moving, disp), fixed, total]
            residual_field, embedding = self.levels[level](
                torch.cat(inputs, dim=1), embedding, condition
            )
            residual_field = self.max_displacement * F.softsign(residual_field.float())
            total = residual_field if total is None else total + residual_field
        assert total is not None
        prediction = resize_prediction(
            self._prediction(total), padded, align_corners=not self.published_pyramid
        )
        return replace(crop_prediction(prediction, (i, j, k)), smoothness=factor)

    def _shrink(self, image: Image, halvings: int) -> LevelImage:
        """Return ``image`` on a level's grid, of half the voxels along each axis per halving."""
        if not self.published_pyramid:
            return resize_image(image, halve_shape(image.shape[2:], halvings))
        for _ in range(halvings):
            image = F.avg_pool3d(image, 3, stride=2, padding=1, count_include_pad=False)
        return image

    def _enlarge(self, total: Field, shape: Shape3) -> tuple[FinerField, FinerField]:
        """Return the summed outputs on a finer grid, and their displacement in its voxels."""
        finer = resample(total, shape, align_corners=not self.published_pyramid)
        if self.published_pyramid:  # integrates velocities on the coarser grid
            disp = self._prediction(total).disp
            return finer, resize_field(disp, shape, align_corners=False)
        return finer, self._prediction(finer).disp

    def _prediction(self, components: Field) -> Prediction:
        """Convert summed outputs, in fractions of half the volume, to a prediction in voxels.

        Spatial gradients have no unit and are not scaled.
        """
        if self.head == "gradient":
            return as_prediction(components, self.head)
        half = (constant(components, components.shape[2:]).view(3, 1, 1, 1) - 1) / 2
        return as_prediction(components * half, self.head)

    def _smoothness(self, fixed: Tensor) -> PerPair | None:
        """Return the smoothness factor of each pair: drawn in training, fixed at test time."""
        if self.smoothness is None:
            return None
        if self.training:
            return self.max_smoothness * torch.rand(len(fixed), device=fixed.device)
        return torch.full((len(fixed),), float(self.smoothness), device=fixed.device)
