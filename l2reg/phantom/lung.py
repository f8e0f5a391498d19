"""Lung phantom: a chest with lungs, vessels, ribs, spine, heart and liver, and its breathing."""

import numpy as np

from l2reg.phantom.canvas import Canvas, Distance, Positions, Texture, ellipsoid, tree, tubes
from l2reg.phantom.motion import FieldArray, random_field, without_folds
from l2reg.shapes import Shape3, Spacing

AIR, FAT, SOFT, LIVER, BONE = -1000.0, -100.0, 40.0, 60.0, 190.0  # HU
INHALED, EXHALED = -860.0, -780.0  # HU of the lung tissue with more and with less air

LUNG_LABEL = 1


class Chest:
    """One patient at inspiration, in mm from the centre along the axes left, back, head."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.body = tuple(np.array([150.0, 105.0, 900.0]) * rng.uniform(0.93, 1.05))
        self.lungs = {
            side: (
                (side * rng.uniform(70, 76), rng.uniform(-4, 8), rng.uniform(-15, 0)),
                (rng.uniform(52, 60), rng.uniform(74, 82), rng.uniform(145, 160)),
            )
            for side in (-1, 1)
        }
        self.diaphragm = rng.uniform(-115, -95)
        self.heart = ((rng.uniform(15, 28), -28.0, -55.0), (50.0, 44.0, 56.0))
        self.texture = Texture(rng, grain_mm=rng.uniform(9, 13), extent_mm=200.0)
        self.fine_texture = Texture(rng, grain_mm=5.0, extent_mm=200.0)
        self.vessels = {side: self._vessels(rng, side) for side in (-1, 1)}

    def _vessels(self, rng: np.random.Generator, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Return points along the vessels of one lung, and their radii, in mm."""
        centre, radii = self.lungs[side]
        inside = rng.uniform(-1, 1, (4000, 3))
        targets = (inside * radii + centre).astype(np.float32)
        targets = targets[self.lung(targets, side) < -6][:90].astype(np.float64)
        root = (side * 32.0, 5.0, 10.0)
        return tree(rng, root, targets, thick_mm=8.0, thin_mm=2.2, step_mm=1.5)

    def dome(self, points: Positions) -> Distance:
        """Return the distance of points below the diaphragm, negative above it."""
        left, back, head = points.T
        bulge = sum(
            np.exp(-(((left - side * 72) / 48) ** 2) - ((back - 5) / 60) ** 2) for side in (-1, 1)
        )
        below: Distance = self.diaphragm + 45 * bulge - head
        return below

    def lung(self, points: Positions, side: int) -> Distance:
        """Return the distance from the surface of the lung at ``side``, -1 or 1."""
        heart = -ellipsoid(points, *self.heart)
        distance: Distance = np.maximum.reduce(
            [ellipsoid(points, *self.lungs[side]), self.dome(points), heart]
        )
        return distance

    def paint(self, canvas: Canvas, tissue: float) -> None:
        """Paint the chest; the lungs get the label ``LUNG_LABEL``.

        Args:
            canvas: Canvas to paint on.
            tissue: Value of the lung tissue, in HU.
        """
        points = canvas.points
        left, back, head = points.T
        skin = ellipsoid(points, (0, 0, 0), self.body)
        canvas.paint(skin, FAT)
        canvas.paint(skin + 12, SOFT)
        ring = np.abs(skin + 22) - 5
        between_ribs = 9 * np.abs(np.sin(np.pi * (head - 0.5 * back) / 34)) - 5
        canvas.paint(np.maximum(ring, between_ribs), BONE)
        canvas.paint(np.hypot(left, back - 80) - 20, BONE)
        canvas.paint(np.hypot(left, back - 80) - 9, SOFT)
        liver = ellipsoid(points, (-60, 0, self.diaphragm - 40), (95, 75, 90))
        canvas.paint(np.maximum(liver, -self.dome(points) + 4), LIVER)
        canvas.paint(ellipsoid(points, *self.heart), SOFT)
        for side in (-1, 1):
            lung = self.lung(points, side)
            near = lung < canvas.edge_mm  # textures and vessels are only computed there
            air = np.full_like(lung, tissue)
            air[near] += 60 * self.texture(points[near]) + 40 * self.fine_texture(points[near])
            canvas.paint(lung, air, LUNG_LABEL)
            vessel = np.full_like(lung, np.inf)
            vessel[near] = np.maximum(tubes(points[near], *self.vessels[side]), lung[near])
            canvas.paint(vessel, SOFT)


def breathing(
    rng: np.random.Generator, chest: Chest, shape: Shape3, spacing_mm: Spacing, points: Positions
) -> FieldArray:
    """Return the displacement from expiration to inspiration positions, in mm.

    Inspiration moves the diaphragm down and the chest forward. A translation of the whole body and
    a random smooth motion are added.

    Args:
        rng: Random numbers of the motion.
        chest: The patient.
        shape: Grid of the field.
        spacing_mm: Voxel size of this grid.
        points: Centres of its voxels, in mm from the centre of the volume.
    """
    left, back, head = points.reshape(*shape, 3).transpose(3, 0, 1, 2)
    depth = rng.uniform(35, 60)
    fraction = 1 / (1 + np.exp((head - chest.diaphragm - 70) / 60))
    wave = 0.35 + 0.65 * np.exp(-((np.hypot(left, back) / 150) ** 2))
    regular = np.stack(
        [
            0.05 * rng.uniform(0, 1) * left,
            -rng.uniform(4, 12) * np.exp(-(((back + 70) / 70) ** 2)),
            -depth * fraction * wave,
        ]
    )
    translation = rng.uniform(-18, 18, (3, 1, 1, 1))
    irregular = random_field(rng, shape, spacing_mm, size_mm=6.0, grain_mm=80.0)
    return without_folds((regular + translation + irregular).astype(np.float32), spacing_mm)
