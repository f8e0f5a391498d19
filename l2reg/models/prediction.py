"""Prediction: what every model returns; and the protocol of networks that are trained in stages.

A model is an ``nn.Module`` that maps a ``Batch`` on its working grid (made by
``data.reader.PairReader.read``) to a ``Prediction``. Its attribute ``grid`` is that grid. Networks
that halve it say in ``min_size`` how many of its voxels, along an axis, one of their coarsest level
stands for.
"""

from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

from torch import nn

from l2reg.shapes import Field, OneHot, PerPair, WorkingGrid


@dataclass(frozen=True)
class Prediction:
    """A displacement field and, if the network has them, the quantities it was computed from.

    Attributes:
        disp: Displacement in voxels of the working grid, on the working grid.
        velocity: Stationary velocity whose flow is ``disp``, in the same voxels on the same grid.
        gradient: Spatial gradient that ``models.heads.integrate_gradient`` sums up to ``disp``, in
            (0, 1); 0.5 is no motion.
        levels: Predictions of the network's coarser levels in training, finest first: each on a
            grid with the working grid's corners, in voxels of that grid.
        segmentations: Logits of the labels of the fixed and of the moving scan in training, the
            background first, each on the working grid.
        smoothness: Factor of the objective's smoothness weight that each pair was predicted for.
    """

    disp: Field
    velocity: Field | None = None
    gradient: Field | None = None
    levels: "tuple[Prediction, ...]" = ()
    segmentations: tuple[OneHot, OneHot] | None = None
    smoothness: PerPair | None = None


def grid_of(model: nn.Module) -> WorkingGrid:
    """Return the working grid of a model: its attribute ``grid``."""
    return cast(WorkingGrid, model.grid)


@runtime_checkable
class StagedTraining(Protocol):
    """A network whose parts are trained one after the other.

    The set of trained parts depends on ``progress`` alone, so that a resumed run continues exactly.
    """

    def set_progress(self, progress: float) -> None:
        """Choose the parts that the next training step trains.

        The trainer calls it before every step.

        Args:
            progress: Fraction of all training steps that are done, in [0, 1).
        """
        ...
