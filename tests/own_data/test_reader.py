from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch

from l2reg.data.intensity import Percentiles, Window
from l2reg.own_data import reader
from l2reg.own_data.check import own_problems
from l2reg.own_data.dataset import OwnDataset

Own = SimpleNamespace

PAIR = (
    "fixed,moving,fixed_labels,moving_labels,fixed_points,moving_points\n"
    "f.nii.gz,m.nii.gz,seg_f.nii.gz,seg_m.nii.gz,f.csv,m.csv\n"
)


def open_pair(own: Own, **changes: object) -> OwnDataset:
    return own.data(PAIR, coordinates="ras", val_fraction=0.0, **changes)


@pytest.mark.usefixtures("two_headers")
@pytest.mark.parametrize("grid", ["full", "half"])
def test_scans_that_differ_by_their_headers_alone_lie_on_each_other(own: Own, grid: str) -> None:
    data = open_pair(own)
    reader = data.reader(grid)
    (pair,) = data.split_pairs("train")
    batch = reader.read(pair)
    both = (batch["fixed_mask"] * batch["moving_mask"])[0, 0] > 0
    assert 0.5 < both.float().mean() < 1  # the scans do not reach the corners
    difference = (batch["fixed"] - batch["moving"])[0, 0][both].abs()
    assert difference.mean() < 0.006  # what interpolation leaves
    assert batch["fixed"].std() > 0.05
    apart_mm = (batch["fixed_points"] - batch["moving_points"]) * batch["spacing_mm"]
    assert batch["fixed_points"].shape[1] == 4
    assert apart_mm.abs().max() < 1e-4
    same = (batch["fixed_labels"] == batch["moving_labels"])[0, 0][both].float().mean()
    assert same > 0.93
    assert batch["label_weight"].item() == 1


@pytest.mark.usefixtures("two_headers")
def test_padding_inside_of_a_file_is_not_seen_and_does_not_shift_percentiles(
    random: np.random.Generator, own: Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches = []
    find = reader.field_of_view
    monkeypatch.setattr(reader, "field_of_view", lambda a: searches.append(1) or find(a))
    array = (40 * random.standard_normal((36, 44, 30))).round().astype(np.float32)
    array[:, :, :9] = -3000
    nib.save(nib.Nifti1Image(array, np.diag([1.5, 2.0, 1.5, 1.0])), "padded.nii.gz")
    sides = dict.fromkeys(("fixed", "moving"), Percentiles(low=5.0, high=95.0))
    task = replace(own.task(shape=array.shape, spacing_mm=(1.5, 2.0, 1.5)), intensity=sides)
    data = own.data("fixed,moving\npadded.nii.gz,padded.nii.gz\n", task, val_fraction=0.0)
    (pair,) = data.split_pairs("train")
    batch = data.reader("full").read(pair)
    seen = array > -3000
    np.testing.assert_array_equal(batch["fixed_mask"][0, 0].numpy(), seen)
    low, high = np.percentile(array[seen], [5, 95])
    expected = np.clip((array[seen] - low) / (high - low), 0, 1)
    np.testing.assert_allclose(batch["fixed"][0, 0].numpy()[seen], expected, atol=1e-4)
    assert len(searches) == 1  # for the mask and the intensities, of both sides


@pytest.mark.usefixtures("two_headers")
def test_one_of_several_volumes_is_read_as_a_file_of_its_own(own: Own) -> None:
    scan = nib.load("m.nii.gz")
    volumes = np.stack([scan.get_fdata() / 2, scan.get_fdata() + 1], axis=-1)
    nib.save(nib.Nifti1Image(volumes, scan.affine), "volumes.nii.gz")
    for n in range(2):
        nib.save(nib.Nifti1Image(volumes[..., n], scan.affine), f"single_{n}.nii.gz")
    table = "fixed,moving,fixed_volume,moving_volume\n"
    rows = ("volumes.nii.gz,volumes.nii.gz,0,1\n", "single_0.nii.gz,single_1.nii.gz,,\n",
            "volumes.nii.gz,volumes.nii.gz,1,0\n")  # fmt: skip
    read = []
    for row in rows:
        data = own.data(table + row, val_fraction=0.0, cache=Path("cache"))
        assert own_problems(data, data.table.rows) == []
        (pair,) = data.split_pairs("train")
        read.append(data.reader("full").read(pair))
    for side, other in (("fixed", "moving"), ("moving", "fixed")):
        torch.testing.assert_close(read[0][side], read[1][side])
        torch.testing.assert_close(read[0][side], read[2][other])
    assert not torch.equal(read[0]["fixed"], read[0]["moving"])
    data = own.data(table + "volumes.nii.gz,volumes.nii.gz,0,2\n", val_fraction=0.0)
    (problem,) = own_problems(data, data.table.rows)
    assert problem.what == "has no volume 2"
    assert "has no volume" in str(problem)


@pytest.mark.usefixtures("two_headers")
def test_a_dicom_series_is_read_as_the_scan_that_it_was_made_of(
    own: Own, write_series: Callable[..., None]
) -> None:
    image = SimpleITK.ReadImage("m.nii.gz", SimpleITK.sitkInt16)
    SimpleITK.WriteImage(image, "m.nii.gz")
    write_series(image, Path("series"))
    found = []
    for name in ("m.nii.gz", "series"):
        data = own.data(PAIR.replace("m.nii.gz,seg_f.nii.gz,seg_m.nii.gz", f"{name},,"),
                        coordinates="ras", val_fraction=0.0, cache=Path("cache"))  # fmt: skip
        assert own_problems(data, data.table.rows) == []
        (pair,) = data.split_pairs("train")
        found += [data.reader("full").read(pair) for _ in range(2)]
    for batch in found[1:]:
        torch.testing.assert_close(batch["moving"], found[0]["moving"], atol=2e-4, rtol=0)
        torch.testing.assert_close(batch["moving_points"], found[0]["moving_points"])
    write_series(image + 100, Path("series"))
    changed = data.reader("full").read(pair)["moving"]
    assert not torch.equal(changed, found[-1]["moving"])


@pytest.mark.usefixtures("two_headers")
def test_voxels_are_where_the_headers_place_them_as_simpleitk_resamples(own: Own) -> None:
    data = open_pair(own)
    reader = data.reader("full")
    (pair,) = data.split_pairs("train")
    batch, (grid, _) = reader.read(pair), reader.full_grids(pair)
    nib.save(nib.Nifti1Image(np.zeros(grid.shape, np.float32), grid.place.affine), "grid.nii.gz")
    reference = SimpleITK.ReadImage("grid.nii.gz", SimpleITK.sitkFloat64)
    moving = SimpleITK.ReadImage("m.nii.gz", SimpleITK.sitkFloat64)
    resampled = SimpleITK.Resample(moving, reference, SimpleITK.Transform(), SimpleITK.sitkLinear,
                                   -1000.0)  # fmt: skip
    expected = np.clip((SimpleITK.GetArrayFromImage(resampled).T + 1000) / 1600, 0, 1)
    # spacings of 2 and 3 mm: the scan, of 1.5 mm along two axes, is smoothed first
    assert np.abs(batch["moving"][0, 0].numpy() - expected).mean() < 0.01
    labels = SimpleITK.ReadImage("seg_m.nii.gz")
    nearest = SimpleITK.Resample(labels, reference, SimpleITK.Transform(),
                                 SimpleITK.sitkNearestNeighbor)  # fmt: skip
    same = batch["moving_labels"][0, 0].numpy() == SimpleITK.GetArrayFromImage(nearest).T
    assert same.mean() > 0.9995  # but ties


@pytest.mark.usefixtures("two_headers")
def test_a_scan_of_the_same_spacing_is_copied_and_padded(own: Own) -> None:
    shape, affine = own.moving
    data = own.data(
        "fixed,moving\nm.nii.gz,m.nii.gz\n",
        own.task(shape=(30, 20, 28), spacing_mm=(1.5, 2.0, 1.5)),
        val_fraction=0.0,
    )
    (pair,) = data.split_pairs("train")
    batch = data.reader("full").read(pair)
    image = nib.Nifti1Image(own.anatomy(own.positions(shape, affine)).reshape(shape), affine)
    canonical = np.clip((nib.as_closest_canonical(image).get_fdata() + 1000) / 1600, 0, 1)
    inside = batch["fixed_mask"][0, 0].numpy() > 0
    assert inside.sum() == canonical.size
    kept = batch["fixed"][0, 0].numpy()[inside].reshape(canonical.shape)
    np.testing.assert_allclose(kept, canonical, atol=2e-4)
    assert batch["fixed"][0, 0].numpy()[~inside].max() == 0


def test_scans_without_a_common_position_start_at_their_centres(own: Own) -> None:
    own.write("a.nii.gz", (30, 30, 30), own.header((30, 30, 30), (1.5, 1.5, 1.5)))
    far = own.header((20, 20, 20), (2.0, 2.0, 2.0), "PIR", centre=(500.0, 0.0, 0.0))
    own.write("b.nii.gz", (20, 20, 20), far, lambda p: p - np.array([[500.0], [0], [0]]))
    text = "scan,labels\na.nii.gz,seg_a.nii.gz\nb.nii.gz,seg_b.nii.gz\n"
    data = own.data(text, val_fraction=0.0, start="centres")
    first, second = data.split_pairs("all")
    assert [first.name, second.name] == ["scan_001_scan_002", "scan_002_scan_001"]
    batch = data.reader("full").read(first)
    difference = (batch["fixed"] - batch["moving"]).abs()
    assert difference.mean() < 0.02  # their grids begin at voxels: a part of one apart
    assert own.data(text, val_fraction=0.0).reader("full").read(first)["moving"].max() == 0


@pytest.mark.usefixtures("two_headers")
def test_a_cached_reading_is_the_same_and_follows_grid_and_window(own: Own) -> None:
    data, cached = open_pair(own), open_pair(own, cache="cache")
    (pair,) = data.split_pairs("train")
    expected = data.reader("full").read(pair)
    for _ in range(2):
        batch = cached.reader("full").read(pair)
        assert all(torch.equal(batch[key], expected[key]) for key in expected)  # type: ignore[literal-required]
    n_files = len(list(Path("cache").iterdir()))
    wider = {side: Window(low=-1000.0, high=900.0) for side in ("fixed", "moving")}
    other = replace(cached, task=replace(cached.task, intensity=wider))
    assert not torch.equal(other.reader("full").read(pair)["fixed"], expected["fixed"])
    assert len(list(Path("cache").iterdir())) == n_files + 2


@pytest.mark.usefixtures("two_headers")
@pytest.mark.parametrize("coordinates", ["lps", "voxels"])
def test_points_are_read_in_their_coordinates_and_those_outside_are_left_out(
    own: Own, coordinates: str
) -> None:
    for side in "fm":
        affine = nib.load(f"{side}.nii.gz").affine
        points = np.vstack([own.balls, [[500.0, 0.0, 0.0]]])
        back = np.diag([-1.0, -1, 1, 1]) if coordinates == "lps" else np.linalg.inv(affine)
        np.savetxt(f"{side}.csv", nib.affines.apply_affine(back, points), delimiter=",")
    data = own.data(PAIR, coordinates=coordinates, val_fraction=0.0)
    (pair,) = data.split_pairs("train")
    reader = data.reader("full")
    grid, _ = reader.full_grids(pair)
    for points in reader.points(pair):
        world = nib.affines.apply_affine(grid.place.affine, points)
        np.testing.assert_allclose(world, own.balls, atol=1e-4)
    fixed, moving = reader.points(pair.swap())
    assert len(fixed) == len(moving) == 4
