"""Image grids: the shape and the place of a scan whose voxels are not needed."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from l2reg.io.headers import Placement, placement
from l2reg.io.nifti import volume_shape
from l2reg.io.scan_source import ScanSource, open_source
from l2reg.shapes import Shape3
from l2reg.transforms.world import voxel_map, voxels_to_world


@dataclass(frozen=True)
class ImageGrid:
    """Grid of a scan in the world.

    Attributes:
        shape: Number of voxels along i, j, k.
        place: Its place.
    """

    shape: Shape3
    place: Placement

    def points(self) -> Float64[np.ndarray, "3 n"]:
        """Return the positions of all voxels in RAS mm, one a column, the last axis fastest."""
        voxels = np.indices(self.shape, dtype=np.float64).reshape(3, -1)
        return voxels_to_world(self.place.affine, voxels)

    def planes(self) -> Iterator[tuple[int, Float64[np.ndarray, "3 n"]]]:
        """Yield the voxels plane by plane along i, as all positions of a large scan fill memory."""
        _, j, k = self.shape
        plane = np.indices((1, j, k), dtype=np.float64).reshape(3, -1)
        for index in range(self.shape[0]):
            yield index, plane + np.array([[index], [0], [0]])

    def coincides(self, other: "ImageGrid") -> bool:
        """Return whether another grid has the same voxels at the same places."""
        same_place = np.array_equal(self.place.affine, other.place.affine)
        return self.shape == other.shape and same_place

    def corner_distance(self, other: "ImageGrid") -> float:
        """Return the largest distance of corners of the same index in another grid, in voxels."""
        corners = np.indices((2, 2, 2)).reshape(3, 8) * (np.array(self.shape)[:, None] - 1)
        matrix = voxel_map(other.place.affine, self.place.affine)
        moved = voxels_to_world(matrix, corners) - corners
        return float(np.linalg.norm(moved, axis=0).max())


def read_grid(source: Path | ScanSource) -> ImageGrid:
    """Return the grid of a volume; its voxels are not read.

    Raises:
        InputError: If the file is missing, unreadable or not three-dimensional, or has an affine
            that is sheared or cannot be inverted.
    """
    image, path = open_source(source)
    return ImageGrid(volume_shape(image, path), placement(image, path))
