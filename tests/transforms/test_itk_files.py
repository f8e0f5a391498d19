from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from l2reg.problems import InputError
from l2reg.transforms.image_grid import ImageGrid
from l2reg.transforms.itk_files import read_itk, write_itk
from l2reg.transforms.world_transform import AffineMap, DisplacementMap, WorldTransform

Inside = Callable[[ImageGrid], np.ndarray]
LPS = np.array([[-1.0], [-1.0], [1.0]])


def by_itk(transform: sitk.Transform, points: np.ndarray) -> np.ndarray:
    """Return where ITK moves points in RAS mm."""
    moved = [transform.TransformPoint(point.tolist()) for point in (LPS * points).T]
    return LPS * np.array(moved).T


@pytest.mark.parametrize("suffix", [".tfm", ".txt", ".mat", ".h5"])
@pytest.mark.parametrize(
    "transform",
    [
        sitk.Euler3DTransform((1, 2, 3), 0.1, -0.2, 0.3, (4, 5, 6)),
        sitk.Similarity3DTransform(1.2, (0, 1, 0), 0.3, (4, 5, 6), (1, 2, 3)),
        sitk.TranslationTransform(3, (4, 5, 6)),
        sitk.AffineTransform([1.1, 0.1, 0, 0.2, 0.9, 0, 0, 0.1, 1], (1, 2, 3), (7, 8, 9)),
    ],
    ids=lambda transform: transform.GetName(),
)
def test_linear_transforms_move_points_as_in_itk(
    tmp_path: Path, random: np.random.Generator, transform: sitk.Transform, suffix: str
) -> None:
    path = tmp_path / f"transform{suffix}"
    sitk.WriteTransform(transform, str(path))
    points = 50 * random.normal(size=(3, 20))
    np.testing.assert_allclose(read_itk(path)(points), by_itk(transform, points), atol=1e-6)


def test_a_composite_is_read_in_the_order_of_itk(
    tmp_path: Path, smooth_field: DisplacementMap, points: Inside
) -> None:
    """SimpleITK makes the field from its own image, and nests one composite in another."""
    positions = points(smooth_field.grid)
    grid = smooth_field.grid
    affine = np.diag([-1.0, -1, 1, 1]) @ grid.place.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image = sitk.Image(grid.shape, sitk.sitkVectorFloat64, 3)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    for index in np.ndindex(*grid.shape):
        i, j, k = index
        vector = smooth_field.disp_mm[:, i, j, k] * LPS[:, 0]
        image[i, j, k] = vector.tolist()
    inner = sitk.CompositeTransform(3)
    inner.AddTransform(sitk.TranslationTransform(3, (1.0, -2.0, 0.5)))
    inner.AddTransform(sitk.DisplacementFieldTransform(image))
    whole = sitk.CompositeTransform(3)
    whole.AddTransform(sitk.Euler3DTransform((0, 0, 0), 0.1, 0.2, 0.3, (4, 5, 6)))
    whole.AddTransform(inner)
    whole.FlattenTransform()
    expected = by_itk(whole, positions)
    sitk.WriteTransform(whole, str(tmp_path / "composite.h5"))
    np.testing.assert_allclose(read_itk(tmp_path / "composite.h5")(positions), expected, atol=1e-4)


def test_what_is_written_moves_points_alike_in_itk(
    tmp_path: Path, smooth_field: DisplacementMap, affine_map: AffineMap, points: Inside
) -> None:
    transform = WorldTransform((affine_map, smooth_field, affine_map))
    positions = affine_map.inverse(points(smooth_field.grid))
    write_itk(tmp_path / "composite.h5", transform)
    moved = by_itk(sitk.ReadTransform(str(tmp_path / "composite.h5")), positions)
    np.testing.assert_allclose(moved, transform(positions), atol=1e-6)
    for suffix in (".tfm", ".txt", ".mat"):
        write_itk(tmp_path / f"affine{suffix}", WorldTransform((affine_map,)))
        moved = by_itk(sitk.ReadTransform(str(tmp_path / f"affine{suffix}")), positions)
        np.testing.assert_allclose(moved, affine_map(positions), atol=1e-6)


def test_what_cannot_be_read_or_written_is_refused(
    tmp_path: Path, smooth_field: DisplacementMap
) -> None:
    (tmp_path / "text.tfm").write_text("garbage")
    (tmp_path / "half.h5").write_bytes(b"\x89HDF\r\n")
    for name in ("text.tfm", "half.h5"):
        with pytest.raises(InputError, match=f"{name}: cannot be read as a transform of ITK"):
            read_itk(tmp_path / name)
    sitk.WriteTransform(sitk.BSplineTransform(3), str(tmp_path / "spline.tfm"))
    with pytest.raises(InputError, match="neither linear nor a displacement field"):
        read_itk(tmp_path / "spline.tfm")
    sitk.WriteTransform(sitk.AffineTransform(2), str(tmp_path / "flat.tfm"))
    with pytest.raises(InputError, match="AffineTransform in 2D"):
        read_itk(tmp_path / "flat.tfm")
    with pytest.raises(InputError, match=r"field.tfm: cannot hold a displacement field"):
        write_itk(tmp_path / "field.tfm", WorldTransform((smooth_field,)))
    assert not (tmp_path / "field.tfm").exists()


def test_without_simpleitk_the_remedy_installs_it(tmp_path: Path) -> None:
    with patch("importlib.import_module", side_effect=ImportError):
        with pytest.raises(InputError, match=r"pip install 'l2reg\[itk\]'"):
            read_itk(tmp_path / "any.h5")
