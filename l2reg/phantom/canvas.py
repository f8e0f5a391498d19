"""Paint shapes onto points: anatomy as a function of where one looks.

Because a scene is a function of points in mm, a deformed scan is the same scene looked at through
the field: no image is ever interpolated, and the true field is exact.
"""

import numpy as np
from jaxtyping import Float, Float32
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

from l2reg.shapes import Shape3, Spacing

Positions = Float32[np.ndarray, "n 3"]  # mm from the centre of the volume
Distance = Float[np.ndarray, " n"]  # mm from a surface, negative inside
Triple = tuple[float, ...]  # three numbers along the axes, mm


class Canvas:
    """Values and labels at points; what is painted later covers what was painted before.

    Args:
        points: Where to paint.
        background: Value where nothing is painted.
        edge_mm: Width over which a surface fades, about a voxel: it stands for partial volume.
    """

    def __init__(self, points: Positions, *, background: float, edge_mm: float) -> None:
        self.points = points
        self.edge_mm = edge_mm
        self.values = np.full(len(points), background, dtype=np.float32)
        self.labels = np.zeros(len(points), dtype=np.uint8)

    def paint(self, distance: Distance, value: Distance | float, label: int | None = None) -> None:
        """Cover the inside of a surface with a value, and with a label if one is given."""
        cover = np.clip(0.5 - distance / self.edge_mm, 0, 1).astype(np.float32)
        self.values += cover * (value - self.values)
        if label is not None:
            self.labels[distance < 0] = label


def ellipsoid(points: Positions, centre: Triple, radii: Triple) -> Distance:
    """Return the distance from an axis-aligned ellipsoid, exact on its surface alone."""
    scaled = (points - np.array(centre, np.float32)) / np.array(radii, np.float32)
    norm = np.sqrt(np.einsum("nc,nc->n", scaled, scaled))
    distance: Distance = (norm - 1) * min(radii)
    return distance


def tubes(
    points: Positions, line: Float[np.ndarray, "m 3"], radii: Float[np.ndarray, " m"]
) -> Distance:
    """Return the distance from balls strung along a line; far away it is only large."""
    reach = float(radii.max()) + 10
    distance, nearest = cKDTree(line).query(points, distance_upper_bound=reach)
    return np.where(np.isinf(distance), reach, distance - np.append(radii, 0)[nearest])


class Texture:
    """A smooth random pattern that sticks to the tissue.

    Args:
        rng: Source of the pattern.
        grain_mm: Size of its spots.
        extent_mm: Half the size of the region it covers; it repeats beyond.
    """

    def __init__(self, rng: np.random.Generator, *, grain_mm: float, extent_mm: float) -> None:
        self.grain_mm = grain_mm
        cells = int(2 * extent_mm / grain_mm) + 4
        self.lattice = rng.normal(size=(cells, cells, cells)).astype(np.float32)

    def __call__(self, points: Positions) -> Distance:
        """Return the pattern, of mean 0 and standard deviation about 0.5, at ``points``."""
        cells = points / self.grain_mm + len(self.lattice) / 2
        pattern: Distance = map_coordinates(self.lattice, cells.T, order=1, mode="grid-wrap")
        return pattern


def tree(
    rng: np.random.Generator,
    root: Triple,
    targets: Float[np.ndarray, "t 3"],
    *,
    thick_mm: float,
    thin_mm: float,
    step_mm: float,
) -> tuple[Float[np.ndarray, "m 3"], Float[np.ndarray, " m"]]:
    """Return points along a tree that grows from ``root`` to every target, and its radii.

    Targets are joined one by one, the nearest to the root first, each to the nearest point of the
    tree so far; a branch is four fifths as thick as what it grows from.
    """
    line = np.array([root], dtype=np.float64)
    radii = np.array([thick_mm])
    for target in targets[np.argsort(np.linalg.norm(targets - np.array(root), axis=1))]:
        start = int(np.argmin(np.linalg.norm(line - target, axis=1)))
        length = np.linalg.norm(target - line[start])
        along = np.linspace(0, 1, max(2, int(length / step_mm)))[1:, None]
        bend = rng.normal(0, 0.06 * length, 3) * np.sin(np.pi * along)
        line = np.concatenate([line, line[start] + along * (target - line[start]) + bend])
        radii = np.append(radii, np.full(len(along), max(thin_mm, 0.8 * radii[start])))
    return line, radii


def grid_points(shape: Shape3, spacing_mm: Spacing) -> Positions:
    """Return every voxel centre of a volume, in mm from its middle."""
    axes = [
        (np.arange(size, dtype=np.float32) - (size - 1) / 2) * np.float32(mm)
        for size, mm in zip(shape, spacing_mm, strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
