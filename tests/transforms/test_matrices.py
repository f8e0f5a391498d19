from pathlib import Path

import numpy as np
import pytest

from l2reg.problems import InputError
from l2reg.transforms.matrices import read_matrix, write_matrix


def test_a_matrix_is_read_as_numpy_saves_it_and_written_to_the_digit(
    tmp_path: Path, random: np.random.Generator
) -> None:
    matrix = np.vstack([30 * random.normal(size=(3, 4)), [0, 0, 0, 1]])
    np.savetxt(tmp_path / "a.mat", matrix)
    np.testing.assert_array_equal(read_matrix(tmp_path / "a.mat"), matrix)
    write_matrix(tmp_path / "b.mat", matrix)
    np.testing.assert_allclose(np.loadtxt(tmp_path / "b.mat"), matrix, rtol=1e-11)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1 0 0\n0 1 0\n", "2 rows of 3 numbers"),
        ("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 1 1\n", "the rows"),
        ("1 0 0 0\n0 1 0 0\n0 0 0 0\n0 0 0 1\n", "the rows"),
        ("1 0 0 nan\n0 1 0 0\n0 0 1 0\n0 0 0 1\n", "the rows"),
        ("fixed moving\n", "could not convert"),
    ],
)
def test_what_is_no_affine_matrix_is_refused(tmp_path: Path, text: str, found: str) -> None:
    (tmp_path / "a.mat").write_text(text)
    with pytest.raises(InputError, match=found):
        read_matrix(tmp_path / "a.mat")
