"""Abdomen phantom: a CT and an MR scan of one patient, with four labelled organs."""

import numpy as np

from l2reg.phantom.canvas import Canvas, Positions, Texture, Triple, ellipsoid, tree, tubes
from l2reg.phantom.motion import FieldArray, random_field, without_folds
from l2reg.shapes import Shape3, Spacing

# Tissue values: Hounsfield units, and arbitrary units of a fat-suppressed T2 weighted MR.
CT = {"outside": -1024.0, "fat": -100.0, "muscle": 50.0, "bone": 450.0, "gas": -800.0,
      "fluid": 10.0, "vessel": 160.0, "liver": 100.0, "spleen": 120.0, "kidney": 180.0}  # fmt: skip
MR = {"outside": 0.0, "fat": 60.0, "muscle": 110.0, "bone": 160.0, "gas": 10.0,
      "fluid": 620.0, "vessel": 40.0, "liver": 190.0, "spleen": 380.0, "kidney": 460.0}  # fmt: skip

ORGANS = ("liver", "spleen", "right kidney", "left kidney")  # labels 1 to 4


class Abdomen:
    """One patient, in mm from the centre of the volume along the axes left, back, head."""

    def __init__(self, rng: np.random.Generator) -> None:
        def random_centre(*centre: float) -> Triple:
            return tuple(np.array(centre) + rng.normal(0, 5, 3))

        def random_radii(*radii: float) -> Triple:
            return tuple(np.array(radii) * rng.uniform(0.88, 1.12, 3))

        self.body = random_radii(165, 115, 900)
        self.liver = [
            (random_centre(-70, -15, 50), random_radii(80, 75, 68)),
            (random_centre(-10, -45, 62), random_radii(75, 42, 42)),
        ]
        self.spleen = (random_centre(98, 40, 55), random_radii(32, 34, 52))
        self.kidneys = [
            (random_centre(side * 58, 55, -25), random_radii(27, 25, 54)) for side in (-1, 1)
        ]
        self.stomach = (random_centre(60, -35, 45), random_radii(48, 38, 40))
        self.bowels = [
            (
                random_centre(*rng.uniform((-100, -80, -150), (100, 20, -50))),
                random_radii(24, 20, 28),
            )
            for _ in range(14)
        ]
        self.texture = Texture(rng, grain_mm=12.0, extent_mm=220.0)
        self.bias = Texture(rng, grain_mm=160.0, extent_mm=400.0)
        targets = np.array(self.liver[0][0]) + rng.uniform(-0.7, 0.7, (40, 3)) * self.liver[0][1]
        self.vessels = tree(rng, (-25, -5, 30), targets, thick_mm=8.0, thin_mm=3.0, step_mm=1.5)

    def paint(self, canvas: Canvas, values: dict[str, float]) -> None:
        """Paint the abdomen and the labels of its organs.

        Args:
            canvas: Canvas to paint on.
            values: Tissue values of one modality: ``CT`` or ``MR``.
        """
        points = canvas.points
        left, back, _ = points.T
        skin = ellipsoid(points, (0, 0, 0), self.body)
        canvas.paint(skin, values["fat"])
        canvas.paint(np.abs(skin + 26) - 8, values["muscle"])
        spots = 1 + 0.12 * self.texture(points)
        canvas.paint(np.hypot(left, back - 62) - 24, values["bone"])
        canvas.paint(np.hypot(left + 8, back - 25) - 9, values["vessel"])
        for number, bowel in enumerate(self.bowels):
            content = values["gas"] if number % 3 == 0 else values["fluid"]
            canvas.paint(ellipsoid(points, *bowel), values["muscle"])
            canvas.paint(ellipsoid(points, *bowel) + 5, content)
        canvas.paint(ellipsoid(points, *self.stomach), values["muscle"])
        canvas.paint(ellipsoid(points, *self.stomach) + 6, values["fluid"])
        liver = np.minimum(*(ellipsoid(points, *part) for part in self.liver))
        canvas.paint(liver, values["liver"] * spots, 1)
        canvas.paint(np.maximum(tubes(points, *self.vessels), liver + 3), values["vessel"])
        canvas.paint(ellipsoid(points, *self.spleen), values["spleen"] * spots, 2)
        for label, kidney in enumerate(self.kidneys, start=3):
            canvas.paint(ellipsoid(points, *kidney), values["kidney"] * spots, label)
            canvas.paint(ellipsoid(points, *kidney) + 13, values["fluid"])

    def skin_mask(self, points: Positions) -> np.ndarray:
        """Return a mask of the points inside the body."""
        inside: np.ndarray = ellipsoid(points, (0, 0, 0), self.body) < 0
        return inside

    def coil(self, points: Positions) -> np.ndarray:
        """Return the gain of the MR receiver coil, which varies slowly in space."""
        gain: np.ndarray = 1 + 0.25 * self.bias(points)
        return gain


def repositioning(rng: np.random.Generator, shape: Shape3, spacing_mm: Spacing) -> FieldArray:
    """Return the displacement from MR to CT positions, in mm: a translation and a smooth motion."""
    translation = rng.uniform(8, 22, 3) * rng.choice([-1, 1], 3)
    smooth = random_field(rng, shape, spacing_mm, size_mm=9.0, grain_mm=85.0)
    return without_folds((smooth + translation[:, None, None, None]).astype(np.float32), spacing_mm)
