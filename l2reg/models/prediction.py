"""What every model returns.

A model is an ``nn.Module`` that maps a batch on its working grid (see
``data.reader.PairReader.read``) to a ``Prediction``. Its attribute ``grid`` names that grid.
"""

from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

from torch import nn

from l2reg.shapes import Field, OneHot, PerPair, WorkingGrid


@dataclass(frozen=True)
class Prediction:
    """A field and, where the network has them, the quantities it was made from.

    Attributes:
        disp: Displacement in voxels of the working grid, on the working grid.
        velocity: Stationary velocity whose flow ``disp`` is, in the same voxels on the same grid.
        gradient: What ``models.heads.integrate_gradient`` made ``disp`` from: 0.5 is no motion.
        levels: In training, what coarser levels of the network arrived at, finest first: each on a
            grid with the working grid's corners, in voxels of that grid.
        segmentations: In training, logits of the fixed and of the moving scan's labels, background
            first, each on the working grid.
        smoothness: Per pair, the factor of the objective's smoothness that the network was told.
    """

    disp: Field
    velocity: Field | None = None
    gradient: Field | None = None
    levels: "tuple[Prediction, ...]" = ()
    segmentations: tuple[OneHot, OneHot] | None = None
    smoothness: PerPair | None = None


def grid_of(model: nn.Module) -> WorkingGrid:
    """Return the working grid that a model was built for, its attribute ``grid``."""
    return cast(WorkingGrid, model.grid)


@runtime_checkable
class StagedTraining(Protocol):
    """A network whose parts are trained one after the other.

    What it trains must follow from ``progress`` alone, so that a resumed run goes on as it was.
    """

    def set_progress(self, progress: float) -> None:
        """Set the fraction of all training steps that is done, in [0, 1); called before each."""
        ...
