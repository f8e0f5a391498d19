"""Tissues: class maps of phantoms, of which scans of any contrast can be made."""

from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Int64

from l2reg.phantom.abdomen import CT, Abdomen
from l2reg.phantom.brain import Template
from l2reg.phantom.canvas import Canvas, Distance, grid_points
from l2reg.phantom.lung import AIR, INHALED, Chest
from l2reg.shapes import Shape3

ClassMap = Int64[np.ndarray, "i j k"]

FLAVOURS = ("abdomen", "lung", "oasis")  # patient n is of flavour n modulo 3
# Grid and edge length of its voxels in mm: the body and some air around it
_GRIDS: Mapping[str, tuple[Shape3, float]] = {
    "abdomen": ((120, 88, 104), 3.0),
    "lung": ((112, 80, 112), 3.0),
    "oasis": ((88, 88, 112), 1.8),
}


class TissueCanvas(Canvas):
    """A canvas whose every shape has a class of its own; shapes of one constant value share it."""

    def __init__(self, points: np.ndarray) -> None:
        super().__init__(points, background=0.0, edge_mm=1.0)
        self.classes = np.zeros(len(points), dtype=np.int64)
        self.class_of: dict[float, int] = {}
        self.n_classes = 1

    def paint(self, distance: Distance, value: Distance | float, label: int | None = None) -> None:
        """Cover the inside of a shape with its class."""
        inside = distance < 0
        if label is not None:
            self.labels[inside] = label
        if isinstance(value, np.ndarray):
            self.classes[inside] = self.n_classes
            self.n_classes += 1
            return
        if value not in self.class_of:
            self.class_of[value] = self.n_classes
            self.n_classes += 1
        self.classes[inside] = self.class_of[value]


@lru_cache(maxsize=64)
def tissue_map(seed: int, number: int) -> torch.Tensor:
    """Return the class map of a patient, ``(1, 1, i, j, k)``, float32; 0 is outside the body.

    Args:
        seed: Seed of the patients.
        number: Number of the patient, which determines its flavour.
    """
    flavour = FLAVOURS[number % len(FLAVOURS)]
    shape, edge_mm = _GRIDS[flavour]
    canvas = TissueCanvas(grid_points(shape, (edge_mm, edge_mm, edge_mm)))
    _PAINTERS[flavour](np.random.default_rng((seed, number)), canvas)
    return torch.from_numpy(canvas.classes.reshape(1, 1, *shape)).float()


def _paint_abdomen(rng: np.random.Generator, canvas: TissueCanvas) -> None:
    canvas.class_of[CT["outside"]] = 0
    Abdomen(rng).paint(canvas, CT)


def _paint_lung(rng: np.random.Generator, canvas: TissueCanvas) -> None:
    canvas.class_of[AIR] = 0
    Chest(rng).paint(canvas, INHALED)


def _paint_brain(rng: np.random.Generator, canvas: TissueCanvas) -> None:
    Template(rng).paint(canvas)


_PAINTERS: Mapping[str, Callable[[np.random.Generator, TissueCanvas], None]] = {
    "abdomen": _paint_abdomen,
    "lung": _paint_lung,
    "oasis": _paint_brain,
}
