from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from scipy.spatial.transform import Rotation

from l2reg.io.itk import from_simpleitk, read_itk_image, simpleitk
from l2reg.io.volumes import read_labels, read_volume
from l2reg.problems import InputError

WriteSeries = Callable[..., None]
SHAPE = (11, 9, 7)
TURN = Rotation.from_euler("zxy", [25, -14, 9], degrees=True).as_matrix()


@pytest.fixture
def scan(random: np.random.Generator) -> sitk.Image:
    """An oblique, anisotropic CT."""
    array = random.integers(-1000, 900, SHAPE[::-1]).astype(np.int16)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.7, 1.25, 3.0))
    image.SetOrigin((12.5, -40.25, 103.0))
    image.SetDirection(TURN.ravel().tolist())
    return image


def lies_as_in(image: sitk.Image, path: Path, atol: float = 1e-4) -> None:
    """Every voxel has the intensity and the position that SimpleITK says."""
    volume = read_volume(path)
    assert volume.array.shape == SHAPE
    for voxel in [(0, 0, 0), (10, 0, 0), (0, 8, 0), (3, 4, 6)]:
        assert volume.array[voxel] == image.GetPixel(*voxel)
        x, y, z = image.TransformIndexToPhysicalPoint(voxel)
        np.testing.assert_allclose(volume.affine[:3] @ [*voxel, 1], (-x, -y, z), atol=atol)
    np.testing.assert_allclose(volume.spacing_mm, (0.7, 1.25, 3.0), atol=atol)


@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nrrd", "A.NRRD", "a.nhdr", "a.nii.gz"])
def test_a_voxel_lies_where_simpleitk_puts_it(scan: sitk.Image, name: str) -> None:
    sitk.WriteImage(scan, name)
    lies_as_in(scan, Path(name))
    assert read_volume(Path(name)).voxel_type.dtype == np.int16


def test_a_folder_of_dicom_files_is_a_scan(scan: sitk.Image, write_series: WriteSeries) -> None:
    write_series(scan, Path("series"))
    lies_as_in(scan, Path("series"))
    Path("series/notes.txt").write_text("text")
    lies_as_in(scan, Path("series"))


def test_an_nrrd_in_ras_is_turned(scan: sitk.Image) -> None:
    """3D Slicer writes left-posterior-superior, others right-anterior-superior."""
    sitk.WriteImage(scan, "a.nrrd", useCompression=False)
    head, data = Path("a.nrrd").read_bytes().split(b"\n\n", 1)
    turned = head.replace(b"left-posterior-superior", b"right-anterior-superior")
    assert turned != head
    Path("b.nrrd").write_bytes(turned + b"\n\n" + data)
    flip = np.diag([-1.0, -1, 1, 1])
    found = [read_volume(Path(name)).affine for name in ("a.nrrd", "b.nrrd")]
    np.testing.assert_allclose(found[1], flip @ found[0], atol=1e-6)


def test_a_label_map_may_be_an_nrrd(scan: sitk.Image) -> None:
    sitk.WriteImage(sitk.Cast(scan > 0, sitk.sitkUInt8), "labels.nrrd")
    assert set(np.unique(read_labels(Path("labels.nrrd")))) == {0, 1}


def refusal(path: str) -> str:
    with pytest.raises(InputError) as error:
        read_volume(Path(path))
    return str(error.value)


def test_slices_that_are_no_even_stack_are_refused(
    scan: sitk.Image, write_series: WriteSeries
) -> None:
    write_series(scan, Path("gap"))
    Path("gap/1.2.3.4_1.dcm").unlink()
    assert "gap: is no even stack of slices" in refusal("gap")
    write_series(scan, Path("two"))
    write_series(scan, Path("two"), uid="1.2.3.5")
    assert "two: has 2 series of DICOM files" in refusal("two")
    write_series(scan, Path("twice"))
    write_series(scan, Path("later"), uid="1.2.3.4")
    for path in Path("later").iterdir():
        path.rename(Path("twice") / f"later_{path.name}")
    assert "twice: is no even stack of slices" in refusal("twice")


def test_a_tilted_gantry_is_refused(scan: sitk.Image, write_series: WriteSeries) -> None:
    write_series(scan, Path("tilted"), shift_mm=0.3)
    assert "is no even stack of slices" in refusal("tilted")


def test_damaged_files_and_colours_are_refused(scan: sitk.Image) -> None:
    sitk.WriteImage(scan, "a.nrrd")
    Path("b.nrrd").write_bytes(Path("a.nrrd").read_bytes()[:600])
    assert "b.nrrd: cannot be read" in refusal("b.nrrd")
    sitk.WriteImage(sitk.Compose(scan, scan, scan), "rgb.mha")
    assert "rgb.mha: does not have one real number in each voxel" in refusal("rgb.mha")
    sitk.WriteImage(scan[:, :, 0], "flat.mha")
    assert "flat.mha: is not a 3D volume" in refusal("flat.mha")
    Path("empty").mkdir()
    Path("empty/a.dcm").write_bytes(b"\0" * 128 + b"DICM")
    assert "empty: has 0 series" in refusal("empty")


def test_a_header_with_an_endless_word_is_refused(scan: sitk.Image) -> None:
    """ITK 5.4 crashes at it."""
    sitk.WriteImage(scan, "a.nrrd")
    head, data = Path("a.nrrd").read_bytes().split(b"\n\n", 1)
    Path("b.nrrd").write_bytes(head.replace(b"little", b"a" * 100_000) + b"\n\n" + data)
    assert "b.nrrd: cannot be read" in refusal("b.nrrd")
    Path("c.nrrd").write_bytes(head + b"\nSegment0_Tags:=" + b"a" * 1000 + b"\n\n" + data)
    lies_as_in(scan, Path("c.nrrd"))


def test_several_volumes_have_a_fourth_axis(scan: sitk.Image) -> None:
    image = from_simpleitk(sitk.JoinSeries([scan, scan + 1]), Path("a"))
    assert image.shape == (*SHAPE, 2)
    np.testing.assert_allclose(image.affine, from_simpleitk(scan, Path("a")).affine)
    assert image.dataobj[3, 4, 5, 1] == scan.GetPixel(3, 4, 5) + 1


def test_without_simpleitk_the_remedy_installs_it() -> None:
    Path("a.mha").write_text("")
    with patch("importlib.import_module", side_effect=ImportError):
        for use in (simpleitk, read_itk_image):
            with pytest.raises(InputError, match=r"pip install 'l2reg\[itk\]'"):
                use(Path("a.mha"))
