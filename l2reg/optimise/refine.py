"""Refine the field of a pair by optimisation, whatever model it comes from."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from l2reg.config import build, read_node
from l2reg.data.reader import Grid
from l2reg.geometry.resize import resample, resize_image, voxel_ratio
from l2reg.geometry.unfold import unfolded
from l2reg.optimise.features import Features
from l2reg.optimise.gauss_newton import Control, Start, Steps, Stiffness, gauss_newton
from l2reg.shapes import Batch, Shape3

_LEAST_VOLUME = 0.15  # of a cell between control points; the challenge's spline overshoots a little


@dataclass(frozen=True, kw_only=True)
class Refine:
    """Gauss-Newton steps from coarse to fine (``optimise.gauss_newton``).

    It knows nothing but the pair: no network is touched, no pair leaves a trace for the next.
    Voxels outside the fixed mask are not compared; labels and points are not read.

    Attributes:
        grid: Which grid the finest level works on, as of a model.
        features: What is compared.
        levels: Rows ``(factor, control, steps)``, coarsest first: how many voxels of the grid one
            of the level's spans, how many of the level's lie between control points, and how many
            steps are taken at most.
        elastic: See ``gauss_newton.Stiffness``.
        viscous: Likewise.
        smoothing: Likewise.
        tolerance: See ``gauss_newton.Steps``.
        solver: Likewise.
        diffeomorphic: Whether what folds in the end is smoothed until it does not.
    """

    grid: Grid | Sequence[int]
    features: Features
    levels: Sequence[Sequence[int]]
    elastic: float
    viscous: float
    smoothing: int
    tolerance: float
    solver: int
    diffeomorphic: bool

    def __post_init__(self) -> None:
        for level in self.levels:
            if len(level) != 3 or min(level) < 1:
                raise ValueError(f"levels must be rows of factor, control, steps; got {level}")
        if self.elastic < 0 or self.viscous < 0 or self.elastic + self.viscous == 0:
            raise ValueError(
                f"elastic and viscous must not both be 0, got {self.elastic}, {self.viscous}"
            )

    @torch.no_grad()
    def __call__(self, batch: Batch, disp: Start) -> Control:
        """Return the refined field on the control grid of the last level, in its voxels.

        Args:
            batch: The pair on the grid.
            disp: Where to start, in voxels of its own grid, which may be any.
        """
        i, j, k = batch["fixed"].shape[2:]
        for factor, control, most in self.levels:
            shape = _coarser((i, j, k), factor)
            fixed, moving = (resize_image(batch[n], shape) for n in ("fixed", "moving"))
            ratio = disp.new_tensor(voxel_ratio(shape, (i, j, k)))
            disp = gauss_newton(
                self.features(fixed, moving),
                resample(batch["fixed_mask"], shape),
                disp,
                batch["spacing_mm"] * ratio,
                Stiffness(self.elastic, self.viscous, self.smoothing),
                Steps(control, most, self.tolerance, self.solver),
            )
        return unfolded(disp, least=_LEAST_VOLUME) if self.diffeomorphic else disp


def refine_for(task: str) -> Refine:
    """Return the refinement that ``refine=gauss_newton`` is for a task.

    Raises:
        InputError: If there are no settings for it.
    """
    settings = read_node("task_refine", f"{task}_gauss_newton")["refine"]
    refine: Refine = build({**read_node("refine", "gauss_newton"), **settings})
    return refine


def _coarser(shape: Shape3, factor: int) -> Shape3:
    """Return the shape of a grid whose voxels span ``factor`` old ones; eight voxels at least."""
    i, j, k = (size if factor == 1 else min(size, max(8, round(size / factor))) for size in shape)
    return (i, j, k)
