"""Matrix files: four rows of four numbers, in which greedy and FSL store affine maps."""

from pathlib import Path

import numpy as np
from jaxtyping import Float64

from l2reg.io.files import atomic_write
from l2reg.problems import InputError, Problem
from l2reg.wording import quantity


def read_matrix(path: Path) -> Float64[np.ndarray, "4 4"]:
    """Read an affine matrix.

    Raises:
        InputError: If the file is no table of 4 x 4 finite numbers whose last row is 0 0 0 1, or
            the matrix cannot be inverted.
    """
    try:
        matrix: np.ndarray = np.loadtxt(path, ndmin=2)
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(_no_matrix(path, str(error))) from error
    if matrix.shape != (4, 4):
        rows, numbers = quantity(matrix.shape[0], "row"), quantity(matrix.shape[1], "number")
        raise InputError(_no_matrix(path, f"{rows} of {numbers}"))
    check_matrix(path, matrix)
    return matrix


def check_matrix(path: Path, matrix: Float64[np.ndarray, "4 4"]) -> None:
    """Raise ``InputError`` unless a matrix is an affine map that can be inverted."""
    sound = np.isfinite(matrix).all() and np.allclose(matrix[3], [0, 0, 0, 1], atol=1e-6)
    if not sound or abs(np.linalg.det(matrix)) < 1e-9:
        rows = "; ".join(" ".join(f"{value:.4g}" for value in row) for row in matrix)
        raise InputError(_no_matrix(path, f"the rows {rows}"))


def write_matrix(path: Path, matrix: Float64[np.ndarray, "4 4"]) -> None:
    """Write a matrix as four rows of four numbers."""
    with atomic_write(path) as temporary:
        np.savetxt(temporary, matrix, fmt="%.12g")


def _no_matrix(path: Path, found: str) -> Problem:
    return Problem(
        where=str(path),
        what="is no affine matrix",
        expected="four rows of four numbers, the last 0 0 0 1, that can be inverted",
        found=found,
        remedy="write it again with the tool that it is from",
    )
