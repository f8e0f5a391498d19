"""Vector volumes: NIfTI files with three numbers in each voxel, in which tools store fields."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from l2reg.io.headers import Placement, placement
from l2reg.io.nifti import open_image, read_array
from l2reg.io.volumes import Intent, read_intent
from l2reg.problems import InputError, Problem
from l2reg.transforms.image_grid import ImageGrid


@dataclass(frozen=True)
class VectorVolume:
    """Vectors on a grid, in the meaning of the tool that wrote them.

    Attributes:
        vectors: One vector a voxel, component first.
        place: Place of the grid.
        intent: What the header says that the numbers are.
        axes: Number of axes in the file: 4 or 5.
    """

    vectors: Float64[np.ndarray, "3 i j k"]
    place: Placement
    intent: Intent
    axes: int

    @property
    def grid(self) -> ImageGrid:
        """Grid of the vectors."""
        i, j, k = self.vectors.shape[1:]
        return ImageGrid((i, j, k), self.place)


def read_vectors(path: Path) -> VectorVolume:
    """Read a file of shape ``(i, j, k, 3)`` or ``(i, j, k, 1, 3)``.

    Raises:
        InputError: If the file is missing or unreadable, has another shape, or has values that are
            not finite.
    """
    image = open_image(path)
    shape = image.shape
    if len(shape) not in (4, 5) or shape[-1] != 3 or (len(shape) == 5 and shape[3] != 1):
        raise InputError(_no_field(path, "shape (i, j, k, 1, 3) or (i, j, k, 3)", f"shape {shape}"))
    array = read_array(image, path).reshape(*shape[:3], 3).astype(np.float64)
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise InputError(_no_field(path, "finite numbers", f"{bad} that are NaN or infinite"))
    return VectorVolume(
        np.ascontiguousarray(np.moveaxis(array, 3, 0)),
        placement(image, path),
        read_intent(image),
        len(shape),
    )


def _no_field(path: Path, expected: str, found: str) -> Problem:
    return Problem(
        where=str(path),
        what="is no displacement field",
        expected=expected,
        found=found,
        remedy="name the transform that a registration wrote, not a scan",
    )
