"""Brain phantom: a template with 35 labelled structures, and subjects deformed smoothly from it."""

import numpy as np

from l2reg.phantom.canvas import Canvas, Texture, ellipsoid
from l2reg.phantom.motion import FieldArray, random_field, without_folds
from l2reg.shapes import Shape3, Spacing

GREY, WHITE, FLUID, DEEP = 0.42, 0.60, 0.12, 0.50  # fractions of the brightest value

# Paired structures: left label, right label, value, centre and radii in mm, along the axes left,
# inferior, anterior. The centre is that of the left structure; the right one is its mirror image.
PAIRED = [
    (5, 24, WHITE, (-22, 45, -42), (20, 16, 20)),  # cerebellum white matter, inside its cortex
    (3, 22, FLUID, (-13, -14, -2), (9, 10, 34)),  # lateral ventricle
    (4, 23, FLUID, (-33, 20, -8), (4, 4, 14)),  # inferior lateral ventricle
    (19, 35, GREY, (-12, -10, -14), (3, 3, 9)),  # choroid plexus
    (8, 27, DEEP, (-15, -8, 20), (5, 9, 13)),  # caudate
    (9, 28, DEEP, (-27, 0, 10), (6, 8, 15)),  # putamen
    (10, 29, WHITE - 0.03, (-19, 1, 7), (4, 6, 9)),  # pallidum
    (7, 26, DEEP + 0.03, (-11, -2, -8), (8, 8, 13)),  # thalamus
    (17, 33, WHITE - 0.05, (-11, 11, -8), (6, 5, 8)),  # ventral DC
    (14, 30, GREY, (-28, 17, -14), (6, 5, 16)),  # hippocampus
    (15, 31, GREY + 0.02, (-24, 18, 8), (6, 6, 6)),  # amygdala
    (16, 32, GREY, (-9, 8, 22), (4, 4, 5)),  # accumbens
    (18, 34, FLUID + 0.1, (-25, 8, 1), (2.5, 2.5, 3.5)),  # vessel
]
# Structures on the midline: label, value, centre and radii in mm, along the same axes.
MIDLINE = [
    (11, FLUID, (0, 2, -6), (3, 9, 14)),  # third ventricle
    (13, WHITE - 0.04, (0, 38, -22), (13, 26, 13)),  # brain stem
    (12, FLUID, (0, 34, -38), (7, 9, 6)),  # fourth ventricle
]


class Template:
    """The head from which all subjects are deformed."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.folding = Texture(rng, grain_mm=11.0, extent_mm=130.0)
        self.texture = Texture(rng, grain_mm=7.0, extent_mm=130.0)

    def paint(self, canvas: Canvas) -> None:
        """Paint image values in [0, 1] and all 35 labels."""
        points = canvas.points
        left_side = points[:, 0] < 0
        spots = 0.04 * self.texture(points)

        def paint_pair(distance: np.ndarray, value: float, left: int, right: int) -> None:
            canvas.paint(distance, value + spots)
            canvas.labels[distance < 0] = np.where(left_side, left, right)[distance < 0]

        cerebrum = ellipsoid(points, (0, -12, 0), (66, 58, 84))
        gap = np.abs(points[:, 0]) - 1.5 + 0.2 * np.maximum(0, points[:, 1] + 20)  # between halves
        paint_pair(np.maximum(cerebrum, -gap - 2), GREY, 2, 21)
        paint_pair(np.maximum(cerebrum + 9 + 5 * self.folding(points), -gap), WHITE, 1, 20)
        cerebellum = np.minimum(
            ellipsoid(points, (-24, 46, -44), (32, 22, 28)),
            ellipsoid(points, (24, 46, -44), (32, 22, 28)),
        )
        paint_pair(cerebellum, GREY, 6, 25)
        for left, right, value, centre, radii in PAIRED:
            mirrored = (-centre[0], *centre[1:])
            shape = np.minimum(ellipsoid(points, centre, radii), ellipsoid(points, mirrored, radii))
            paint_pair(shape, value, left, right)
        for label, value, centre, radii in MIDLINE:
            canvas.paint(ellipsoid(points, centre, radii), value + spots, label)


def subject_shape(rng: np.random.Generator, shape: Shape3, spacing_mm: Spacing) -> FieldArray:
    """Return the displacement from positions of a subject to the template, in mm."""
    coarse = random_field(rng, shape, spacing_mm, size_mm=3.5, grain_mm=50.0)
    fine = random_field(rng, shape, spacing_mm, size_mm=1.5, grain_mm=24.0)
    return without_folds(coarse + fine, spacing_mm)
