from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from l2reg.problems import InputError
from l2reg.registration.transform_scans import TransformScans
from l2reg.transforms.torch_grid import read_grid_sample, write_grid_sample
from l2reg.transforms.world_transform import DisplacementMap


def test_grid_sample_takes_the_file_as_it_is(
    tmp_path: Path,
    oblique_scans: TransformScans,
    smooth_field: DisplacementMap,
    random: np.random.Generator,
) -> None:
    """SciPy samples the moving scan at the positions that the headers and the field give."""
    fixed, moving = oblique_scans.both("")
    write_grid_sample(tmp_path / "grid.npy", smooth_field, moving)
    grid = torch.from_numpy(np.load(tmp_path / "grid.npy"))
    scan = random.random(moving.shape).astype(np.float32)
    warped = torch.nn.functional.grid_sample(  # noqa: TID251
        torch.from_numpy(scan)[None, None], grid, align_corners=True, padding_mode="border"
    )[0, 0]
    world = np.vstack([smooth_field(fixed.points()), np.ones((1, np.prod(fixed.shape)))])
    voxels = (np.linalg.inv(moving.place.affine) @ world)[:3]
    expected = map_coordinates(scan, voxels, order=1, mode="nearest").reshape(fixed.shape)
    np.testing.assert_allclose(warped.numpy(), expected, atol=1e-4)
    (again,) = read_grid_sample(tmp_path / "grid.npy", fixed, moving).steps
    assert isinstance(again, DisplacementMap)
    np.testing.assert_allclose(again.disp_mm, smooth_field.disp_mm, atol=1e-4)


def test_another_shape_or_file_is_refused(tmp_path: Path, oblique_scans: TransformScans) -> None:
    fixed, moving = oblique_scans.both("")
    np.save(tmp_path / "small.npy", np.zeros((1, 3, 4, 5, 3), np.float32))
    (tmp_path / "text.npy").write_text("x")
    for name in ("small.npy", "text.npy"):
        with pytest.raises(InputError, match="no sampling grid of PyTorch"):
            read_grid_sample(tmp_path / name, fixed, moving)


def test_pickled_objects_are_never_loaded(tmp_path: Path, oblique_scans: TransformScans) -> None:
    fixed, moving = oblique_scans.both("")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="Object arrays cannot be loaded"):
        read_grid_sample(tmp_path / "objects.npy", fixed, moving)
