"""Transforms of the world: maps from fixed to moving positions in RAS millimetres."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64

from l2reg.geometry.point_inverse import PointInverse
from l2reg.geometry.warp import sample_at_points
from l2reg.io.headers import Placement
from l2reg.transforms.image_grid import ImageGrid
from l2reg.transforms.world import voxels_to_world

Points = Float64[np.ndarray, "3 n"]  # RAS mm, one a column

Inside = Bool[np.ndarray, " n"]

_CHUNK = 2**20  # points that are moved at once
_TOLERANCE_MM = 1e-4  # of an inverse
_MAX_ITERATIONS = 100


@dataclass(frozen=True)
class AffineMap:
    """Affine map of the world.

    Attributes:
        matrix: Map from fixed to moving positions in RAS mm.
    """

    matrix: Float64[np.ndarray, "4 4"]

    def __call__(self, points: Points) -> Points:
        """Return the moving positions of fixed positions, in RAS mm."""
        return voxels_to_world(self.matrix, points)

    def contains(self, points: Points) -> Inside:
        """Return that it is defined everywhere."""
        return np.ones(points.shape[1], dtype=bool)

    @property
    def inverse(self) -> "AffineMap":
        """The map from moving to fixed positions."""
        return AffineMap(np.linalg.inv(self.matrix))


@dataclass(frozen=True)
class DisplacementMap:
    """Displacement field in millimetres; as in ITK, positions outside its grid do not move.

    Between voxels it is linear. The grid ends half a voxel beyond the centres of its outermost
    voxels; there the field has the value of the nearest one.

    Attributes:
        disp_mm: Displacement of every voxel of the fixed grid, along R, A, S.
        place: Place of the grid.
    """

    disp_mm: Float64[np.ndarray, "3 i j k"]
    place: Placement

    def __call__(self, points: Points) -> Points:
        """Return the moving positions of fixed positions, in RAS mm."""
        return points + np.where(self.contains(points), self.displacement(points), 0.0)

    @property
    def inverse(self) -> "InverseDisplacementMap":
        """The map from moving to fixed positions."""
        return InverseDisplacementMap(self)

    @property
    def grid(self) -> ImageGrid:
        """Grid of the field."""
        i, j, k = self.disp_mm.shape[1:]
        return ImageGrid((i, j, k), self.place)

    def contains(self, points: Points) -> Inside:
        """Return which positions lie inside the grid."""
        voxels = voxels_to_world(np.linalg.inv(self.place.affine), points)
        last = np.array(self.disp_mm.shape[1:])[:, None] - 0.5
        inside: np.ndarray = np.all((voxels >= -0.5) & (voxels < last), axis=0)
        return inside

    def displacement(self, points: Points) -> Points:
        """Return the displacement in mm at positions; outside the grid that of its nearest edge."""
        voxels = voxels_to_world(np.linalg.inv(self.place.affine), points)
        # Torch distributes batch entries over its threads
        parts = torch.get_num_threads()
        rows = np.zeros((parts * -(-voxels.shape[1] // parts), 3))
        rows[: voxels.shape[1]] = voxels.T
        volume = torch.from_numpy(self.disp_mm).expand(parts, -1, -1, -1, -1)
        sampled = sample_at_points(volume, torch.from_numpy(rows).view(parts, -1, 3))
        displacement: np.ndarray = sampled.reshape(-1, 3).numpy()[: voxels.shape[1]].T
        return displacement


@dataclass(frozen=True)
class InverseDisplacementMap:
    """Inverse of a displacement field, found position by position.

    Where the field folds there is no inverse: the best position that was found is returned, see
    ``PointInverse``.

    Attributes:
        inverse: The field, continued beyond its grid by its value at the nearest edge.
    """

    inverse: DisplacementMap

    def __call__(self, points: Points) -> Points:
        """Return the fixed positions of moving positions, in RAS mm."""
        affine = self.inverse.place.affine
        targets = voxels_to_world(np.linalg.inv(affine), points)
        found: np.ndarray = self._solver(torch.from_numpy(targets)).numpy()
        return voxels_to_world(affine, found)

    @cached_property
    def _solver(self) -> PointInverse:
        linear = self.inverse.place.affine[:3, :3]
        disp = np.einsum("cd,dijk->cijk", np.linalg.inv(linear), self.inverse.disp_mm)
        to_mm = torch.from_numpy(linear.copy())
        return PointInverse(torch.from_numpy(disp)[None], to_mm, _TOLERANCE_MM, _MAX_ITERATIONS)

    def contains(self, points: Points) -> Inside:
        """Return which positions have their fixed position inside the field's grid."""
        return self.inverse.contains(self(points))

    def error(self, found: Points, points: Points) -> Points:
        """Return where the field leads from the fixed positions found, less the moving ones."""
        error: Points = found + self.inverse.displacement(found) - points
        return error


Step = AffineMap | DisplacementMap | InverseDisplacementMap


@dataclass(frozen=True)
class WorldTransform:
    """Map from fixed to moving positions in RAS mm, as a sequence of steps.

    Attributes:
        steps: The steps in the order in which a fixed position passes through them.
    """

    steps: tuple[Step, ...]

    def __call__(self, points: Float[np.ndarray, "3 n"]) -> Points:
        """Return the moving positions of fixed positions, in RAS mm, one a column."""
        moved = points.astype(np.float64)
        for start in range(0, points.shape[1], _CHUNK):
            chunk = slice(start, start + _CHUNK)
            for step in self.steps:
                moved[:, chunk] = step(moved[:, chunk])
        return moved

    def contains(self, points: Float[np.ndarray, "3 n"]) -> Inside:
        """Return which positions all fields on their way are defined for."""
        inside, moved = np.ones(points.shape[1], dtype=bool), points.astype(np.float64)
        for step in self.steps:
            inside &= step.contains(moved)
            moved = step(moved)
        return inside

    def inversion_error_mm(self, points: Float[np.ndarray, "3 n"]) -> Float64[np.ndarray, " n"]:
        """Return how far each position is from one that has an exact inverse.

        0 without a step that inverts a field.
        """
        largest, moved = np.zeros(points.shape[1]), points.astype(np.float64)
        for step in self.steps:
            start, moved = moved, step(moved)
            if isinstance(step, InverseDisplacementMap):
                error = np.linalg.norm(step.error(moved, start), axis=0)
                largest = np.maximum(largest, error)
        return largest

    @property
    def inverse(self) -> "WorldTransform":
        """The map from moving to fixed positions."""
        return WorldTransform(tuple(step.inverse for step in reversed(self.steps)))

    @property
    def matrix(self) -> Float64[np.ndarray, "4 4"] | None:
        """The map as a matrix in RAS mm; none if a step is not affine."""
        matrices = [step.matrix for step in self.steps if isinstance(step, AffineMap)]
        if len(matrices) < len(self.steps):
            return None
        product: np.ndarray = np.eye(4)
        for matrix in matrices:
            product = matrix @ product
        return product

    def on_grid(self, grid: ImageGrid) -> DisplacementMap:
        """Return the transform as one displacement field on a grid."""
        match self.steps:
            case (DisplacementMap() as field,) if field.grid.coincides(grid):
                return field
        points = grid.points()
        disp_mm = (self(points) - points).reshape(3, *grid.shape)
        return DisplacementMap(disp_mm, grid.place)

    def voxel_field(
        self, fixed: ImageGrid, moving_affine: Float[np.ndarray, "4 4"]
    ) -> Float32[np.ndarray, "3 i j k"]:
        """Return the field in the convention of ``geometry.warp``, from fixed to moving voxels.

        Args:
            fixed: Grid of the fixed scan.
            moving_affine: Map from voxels of the moving scan to RAS mm.
        """
        matrix, disp_mm = self.matrix, None
        if matrix is None:
            matrix, disp_mm = np.eye(4), self.on_grid(fixed).disp_mm
        to_world, to_moving = matrix @ fixed.place.affine, np.linalg.inv(moving_affine)
        field = np.empty((3, *fixed.shape), dtype=np.float32)
        for i, voxels in fixed.planes():
            world = voxels_to_world(to_world, voxels)
            if disp_mm is not None:
                world += disp_mm[:, i].reshape(3, -1)
            positions = voxels_to_world(to_moving, world)
            field[:, i] = (positions - voxels).reshape(field[:, i].shape)
        return field


def displacement_map(
    disp: Float[np.ndarray, "3 i j k"],
    fixed: Placement,
    moving_affine: Float[np.ndarray, "4 4"],
) -> DisplacementMap:
    """Return a field in voxels as a field in millimetres, rounded to float32 as in files.

    Args:
        disp: Field in voxels: the voxel ``p`` of the fixed grid corresponds to the voxel
            ``p + disp(p)`` of the moving grid.
        fixed: Place of the fixed scan.
        moving_affine: Map from voxels of the moving scan to RAS mm.
    """
    n_i, n_j, n_k = disp.shape[1:]
    disp_mm = np.empty(disp.shape)
    for i, voxels in ImageGrid((n_i, n_j, n_k), fixed).planes():
        fixed_points = voxels_to_world(fixed.affine, voxels)
        moving_points = voxels_to_world(moving_affine, voxels + disp[:, i].reshape(3, -1))
        rounded = (moving_points - fixed_points).astype(np.float32)
        disp_mm[:, i] = rounded.reshape(disp_mm[:, i].shape)
    return DisplacementMap(disp_mm, fixed)
