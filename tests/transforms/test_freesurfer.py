from pathlib import Path

import numpy as np
import pytest
from nibabel.freesurfer.mghformat import MGHHeader

from l2reg.problems import InputError
from l2reg.transforms.freesurfer import read_lta

TO_FIXED = np.array(
    [[0.98, 0.17, 0.0, 3.0], [-0.17, 0.97, 0.1, -4.0], [0.02, -0.1, 1.02, 5.5], [0, 0, 0, 1]]
)


def header(shape: tuple[int, int, int], zooms: tuple[float, float, float]) -> MGHHeader:
    """A header of FreeSurfer, oblique; nibabel computes its affine."""
    result = MGHHeader()
    result.set_data_shape(shape)
    result.set_zooms(zooms)
    result["Mdc"] = [[-0.96, 0.28, 0], [0, 0, -1], [0.28, 0.96, 0]]
    result["Pxyz_c"] = [4, -9, 12]
    return result


def info(name: str, volume: MGHHeader) -> str:
    rows = "".join(
        f"{axis}ras = {' '.join(map(str, row))}\n"
        for axis, row in zip("xyz", volume["Mdc"], strict=True)
    )
    return (
        f"{name} volume info\nvalid = 1  # volume info valid\nfilename = {name}.mgz\n"
        f"volume = {' '.join(map(str, volume.get_data_shape()))}\n"
        f"voxelsize = {' '.join(map(str, volume.get_zooms()))}\n{rows}"
        f"cras = {' '.join(map(str, volume['Pxyz_c']))}\n"
    )


def lta(kind: int, matrix: np.ndarray, *volumes: str) -> str:
    rows = "".join(" ".join(f"{value:.15e}" for value in row) + " \n" for row in matrix)
    return (
        f"type      = {kind} # LINEAR\nnxforms   = 1\nmean      = 0.0 0.0 0.0\n"
        f"sigma     = 10000.0\n1 4 4\n{rows}{''.join(volumes)}subject fsaverage\n"
    )


@pytest.mark.parametrize("kind", [0, 1])
def test_the_map_from_moving_to_fixed_is_inverted(tmp_path: Path, kind: int) -> None:
    moving, fixed = header((20, 30, 40), (1.5, 1, 2)), header((31, 22, 25), (1, 1.25, 0.8))
    matrix = TO_FIXED
    if kind == 0:  # from voxels to voxels
        matrix = np.linalg.inv(fixed.get_affine()) @ TO_FIXED @ moving.get_affine()
    path = tmp_path / "a.lta"
    path.write_text(lta(kind, matrix, info("src", moving), info("dst", fixed)))
    found = read_lta(path).matrix
    assert found is not None
    np.testing.assert_allclose(found, np.linalg.inv(TO_FIXED), atol=1e-5)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (lta(14, TO_FIXED), "type 14"),
        (lta(0, TO_FIXED), "no valid 'src' volume"),
        (lta(1, TO_FIXED).replace("= 1\nmean", "= 2\nmean"), "2 transforms"),
        ("hello", "no line 'type'"),
        (lta(1, TO_FIXED[:2]), "no matrix"),
        (lta(1, TO_FIXED * 0), "is no affine matrix"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, text: str, found: str) -> None:
    (tmp_path / "a.lta").write_text(text)
    with pytest.raises(InputError, match=found):
        read_lta(tmp_path / "a.lta")
