"""Canvas: anatomy as a function of positions in mm, painted at the voxels of a scan.

A deformed scan is the same anatomy, sampled at positions displaced by the true field. No image is
interpolated, so the true field is exact.
"""

import numpy as np
from jaxtyping import Float, Float32
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

from l2reg.shapes import Shape3, Spacing

Positions = Float32[np.ndarray, "n 3"]  # mm from the centre of the volume
Distance = Float[np.ndarray, " n"]  # mm from a surface, negative inside
Triple = tuple[float, ...]  # three numbers in mm, one along each axis


class Canvas:
    """Image values and labels at points; later shapes cover earlier ones.

    Args:
        points: Positions of the voxels.
        background: Value of points that no shape covers.
        edge_mm: Width over which the edge of a shape fades, about a voxel: it imitates the partial
            volume effect.
    """

    def __init__(self, points: Positions, *, background: float, edge_mm: float) -> None:
        self.points = points
        self.edge_mm = edge_mm
        self.values = np.full(len(points), background, dtype=np.float32)
        self.labels = np.zeros(len(points), dtype=np.uint8)

    def paint(self, distance: Distance, value: Distance | float, label: int | None = None) -> None:
        """Cover the inside of a shape with a value, and with a label if it is not ``None``.

        Args:
            distance: Distance of the points from the surface of the shape.
            value: Image value, one or one for each point.
            label: Label of the shape.
        """
        cover = np.clip(0.5 - distance / self.edge_mm, 0, 1).astype(np.float32)
        self.values += cover * (value - self.values)
        if label is not None:
            self.labels[distance < 0] = label


def ellipsoid(points: Positions, centre: Triple, radii: Triple) -> Distance:
    """Return the distance from an axis-aligned ellipsoid, which is exact only on its surface."""
    scaled = (points - np.array(centre, np.float32)) / np.array(radii, np.float32)
    norm = np.sqrt(np.einsum("nc,nc->n", scaled, scaled))
    distance: Distance = (norm - 1) * min(radii)
    return distance


def tubes(
    points: Positions, line: Float[np.ndarray, "m 3"], radii: Float[np.ndarray, " m"]
) -> Distance:
    """Return the distance from a tube, the union of balls along a line.

    At more than the largest radius plus 10 mm from the line, the distance is this upper bound.
    """
    max_distance = float(radii.max()) + 10
    distance, nearest = cKDTree(line).query(points, distance_upper_bound=max_distance)
    return np.where(np.isinf(distance), max_distance, distance - np.append(radii, 0)[nearest])


class Texture:
    """A smooth random pattern, fixed to the tissue.

    Args:
        rng: Random numbers of the pattern.
        grain_mm: Size of the spots of the pattern.
        extent_mm: Half the size of the region that the pattern covers; beyond it the pattern
            repeats.
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
    """Return points along a tree of vessels from ``root`` to every target, and its radii there.

    Targets are added one by one, the nearest to the root first, each as a branch from the nearest
    point of the tree so far. The radius of a branch is 0.8 times the radius at this point.

    Args:
        rng: Random numbers of the bends.
        root: Start of the tree.
        targets: Ends of the branches, in mm.
        thick_mm: Radius at the root.
        thin_mm: Smallest radius of a branch.
        step_mm: Distance between points along a branch.
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
    """Return the centres of all voxels of a volume, in mm from the centre of the volume."""
    axes = [
        (np.arange(size, dtype=np.float32) - (size - 1) / 2) * np.float32(mm)
        for size, mm in zip(shape, spacing_mm, strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
