"""What every model returns.

A model is an ``nn.Module`` that maps a batch on its working grid (see
``data.reader.PairReader.read``) to a ``Prediction``. Its attribute ``grid`` names that grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from torch import nn

from l2reg.data.reader import Grid
from l2reg.shapes import Field


@dataclass(frozen=True)
class Prediction:
    """A field and, where the network has them, the quantities it was made from.

    Attributes:
        disp: Displacement in voxels of the working grid, on the working grid.
        velocity: Stationary velocity whose flow ``disp`` is, in the same voxels on the same grid.
    """

    disp: Field
    velocity: Field | None = None


def grid_of(model: nn.Module) -> Grid | Sequence[int]:
    """Return the working grid that a model was built for, its attribute ``grid``."""
    return cast(Grid | Sequence[int], model.grid)
