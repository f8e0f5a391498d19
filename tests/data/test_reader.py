from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from l2reg.batch import Batch
from l2reg.data import reader
from l2reg.data.cache import Cache
from l2reg.data.dataset import Dataset
from l2reg.data.intensity import Percentiles, Window
from l2reg.data.pairs import Scan
from l2reg.data.prealign import Prealign
from l2reg.data.reader import LoadedVolumes, PairReader
from l2reg.data.task import Task
from l2reg.geometry.affine import Motion, affine_after_field, identity_affine
from l2reg.geometry.warp import warp
from l2reg.io.volumes import read_image
from l2reg.phantom.make import phantom_task
from l2reg.shapes import Affine, WorkingGrid

TINY = (12, 10, 14)


def test_a_pair_on_the_full_grid_is_what_the_files_hold(
    lung_2021: Path, tiny_task: Callable[..., Task], open_data: Callable[..., Dataset]
) -> None:
    data = open_data(tiny_task("lung"), lung_2021)
    pair = data.training_set.intra_patient[0]
    sample = data.reader("full").read(pair)
    expected = (np.clip(read_image(pair.fixed.image), -1000, 200) + 1000) / 1200
    np.testing.assert_allclose(sample["fixed"][0, 0].numpy(), expected, atol=1e-6)
    assert sample["fixed_mask"].sum() == 8 * 6 * 8
    assert pair.keypoints is not None
    fixed, moving = pair.keypoints.read()
    np.testing.assert_allclose(sample["fixed_points"][0].numpy(), fixed, atol=1e-5)
    np.testing.assert_allclose(sample["moving_points"][0].numpy(), moving, atol=1e-5)
    assert sample["point_weights"].tolist() == [[1.0] * 20]
    torch.testing.assert_close(sample["spacing_mm"], torch.tensor([[1.75, 1.25, 1.75]]))
    assert sample["label_weight"].tolist() == [0.0]
    assert (sample["fixed_labels"] == 0).all()


def test_the_half_grid_keeps_corners_and_points_follow(
    lung_2021: Path, tiny_task: Callable[..., Task], open_data: Callable[..., Dataset]
) -> None:
    data = open_data(tiny_task("lung"), lung_2021)
    pair = data.training_set.intra_patient[0]
    full, half = (data.reader(grid).read(pair) for grid in ("full", "half"))
    assert half["moving"].shape == (1, 1, 6, 5, 7)
    ratio = torch.tensor([5 / 11, 4 / 9, 6 / 13])
    torch.testing.assert_close(half["fixed_points"], full["fixed_points"] * ratio)
    torch.testing.assert_close(half["spacing_mm"], full["spacing_mm"] / ratio)


def test_missing_masks_points_and_labels_are_ones_none_and_zeros(
    lung_2021: Path, tiny_task: Callable[..., Task], open_data: Callable[..., Dataset]
) -> None:
    (lung_2021 / "task_02/training/lungMasks/case_001_exp.nii.gz").unlink()
    data = open_data(tiny_task("lung"), lung_2021)
    sample = data.reader("half").read(data.split_pairs("val")[0])
    assert (sample["fixed_mask"] == 1).all()
    assert sample["fixed_points"].shape == (1, 0, 3)  # it has landmarks, which no method may read


@pytest.mark.parametrize(
    ("modalities", "expected"), [("CT CT", 0.0), ("MR CT", 1.0), ("MR MR", 0.0)]
)
def test_a_pair_of_which_one_is_a_ct_is_of_two_modalities(
    modalities: str,
    expected: float,
    lung_2021: Path,
    tiny_task: Callable[..., Task],
    open_data: Callable[..., Dataset],
) -> None:
    task = tiny_task("lung")
    task = replace(task, intensity={**task.intensity, "MR": Percentiles(low=1.0, high=99.0)})
    pair = open_data(task, lung_2021).training_set.intra_patient[0]
    fixed, moving = modalities.split()
    pair = replace(
        pair,
        fixed=replace(pair.fixed, modality=fixed),
        moving=replace(pair.moving, modality=moving),
    )
    batch = open_data(task, lung_2021).reader("full").read(pair)
    assert batch["cross_modality"].tolist() == [expected]


@pytest.mark.parametrize(("grid", "step"), [("full", 1), ("half", 2)])
def test_a_scan_without_a_mask_counts_where_it_was_seen(
    random: np.random.Generator, lung_2021: Path, tmp_path: Path,
    tiny_task: Callable[..., Task], open_data: Callable[..., Dataset],
    grid: WorkingGrid, step: int,
) -> None:  # fmt: skip
    """The lowest slices are blank, as a resampling leaves them."""
    array = (100 + 50 * random.random((36, 34, 27))).astype(np.float32)
    array[:, :, :7] = 0
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "scan.nii.gz")
    task = tiny_task("lung")
    prealign = open_data(task, lung_2021).reader(grid).prealign
    reader = PairReader(replace(task, shape=array.shape), grid, prealign, Cache(None))
    image = tmp_path / "scan.nii.gz"
    scan = Scan(id=1, official_id=1, modality="CT", image=image, labels=None, mask=None)
    mask = reader.mask(scan)[0, 0]
    seen = mask.numpy().mean(axis=(0, 1))
    assert set(seen) == {0.0, 1.0}
    assert abs(step * int((seen == 0).sum()) - 7) <= step


def test_the_cache_changes_nothing(
    lung_2021: Path, tiny_task: Callable[..., Task], open_data: Callable[..., Dataset]
) -> None:
    data = open_data(tiny_task("lung"), lung_2021)
    pair = data.training_set.intra_patient[0]
    plain = data.reader("half").read(pair)
    still = Prealign("none", data.prealign_search)
    cached = PairReader(data.release.task, "half", still, Cache(Path("cache")))
    for _ in range(2):
        sample = cached.read(pair)
        assert sample.keys() == plain.keys()
        assert all(torch.equal(sample[name], plain[name]) for name in plain)


def test_the_result_of_a_search_is_cached_for_the_pair_and_not_for_another(
    lung_2021: Path, tiny_task: Callable[..., Task], open_data: Callable[..., Dataset]
) -> None:
    calls = []

    @dataclass(frozen=True)
    class Counting:
        def __call__(self, batch: Batch, motion: Motion, start: Affine) -> Affine:
            calls.append(motion)
            return start + len(calls)

    data = open_data(tiny_task("lung"), lung_2021)
    pair = data.split_pairs("val")[0]
    reader = PairReader(
        data.release.task, "half", Prealign("rigid", Counting()), Cache(Path("cache"))
    )
    first, again, other = (reader.read(p)["prealign"] for p in (pair, pair, pair.swap()))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert calls == ["rigid", "rigid"]


def test_a_cached_search_is_not_used_for_other_inputs_of_the_search(
    lung_2021: Path, tiny_task: Callable[..., Task], open_data: Callable[..., Dataset]
) -> None:
    @dataclass(frozen=True)
    class Counting:
        def __call__(self, batch: Batch, motion: Motion, start: Affine) -> Affine:
            calls.append(motion)
            return start

    calls: list[Motion] = []
    data = open_data(tiny_task("lung"), lung_2021)
    pair, task = data.training_set.intra_patient[0], data.release.task
    window = {"CT": Window(low=-500.0, high=100.0)}
    no_mask = replace(pair.fixed, mask=None), replace(pair.moving, mask=None)
    variants = [
        (pair, task, "half"),
        (pair, task, "full"),
        (pair, replace(task, intensity=window), "half"),
        (pair, replace(task, spacing_mm=(3.0, 1.0, 1.0)), "half"),
        (replace(pair, fixed=no_mask[0]), task, "half"),
        (replace(pair, moving=no_mask[1]), task, "half"),
    ]
    for count, (one, of, grid) in enumerate(variants, start=1):
        search = Prealign("rigid", Counting())
        for _ in range(2):
            PairReader(of, grid, search, Cache(Path("cache"))).read(one)  # type: ignore[arg-type]
        assert len(calls) == count


def test_a_known_prealignment_is_used_unchanged(
    lung_2021: Path, tiny_task: Callable[..., Task], open_data: Callable[..., Dataset]
) -> None:
    data = open_data(tiny_task("lung"), lung_2021)
    matrix = identity_affine(1)
    matrix[0, 0, 3] = 2.0
    sample = data.reader("half").read(data.split_pairs("val")[0], prealign=matrix)
    plain = data.reader("half").read(data.split_pairs("val")[0])
    assert torch.equal(sample["prealign"], matrix)
    torch.testing.assert_close(sample["moving"][..., :-2, :, :], plain["moving"][..., 2:, :, :])


def test_prealignment_moves_image_mask_labels_and_points_together(
    phantoms: dict[str, Path], open_data: Callable[..., Dataset]
) -> None:
    task = phantom_task("abdomen", "small", 0, 3, root=phantoms["abdomen"])
    plain, moved = (open_data(task, prealign=how) for how in ("none", "mask_centre"))
    pair = plain.split_pairs("val")[0]
    before, after = plain.reader("half").read(pair), moved.reader("half").read(pair)
    assert after["prealign"][0, :, 3].norm() > 1
    field = affine_after_field(after["prealign"], torch.zeros(1, 3, *before["moving"].shape[2:]))
    expected = warp(before["moving"], field, padding="zeros")
    torch.testing.assert_close(after["moving"], expected)
    assert torch.equal(after["fixed"], before["fixed"])
    overlap = [float((s["fixed_mask"] * s["moving_mask"]).sum()) for s in (before, after)]
    assert overlap[1] > overlap[0]
    assert set(after["moving_labels"].unique().tolist()) <= {0, 1, 2, 3, 4}


def test_labels_reach_the_half_grid_without_new_values(
    phantoms: dict[str, Path], open_data: Callable[..., Dataset]
) -> None:
    task = phantom_task("oasis", "small", 0, 3, root=phantoms["oasis"])
    data = open_data(task)
    sample = data.reader("half").read(data.split_pairs("val")[0])
    assert sample["label_weight"].tolist() == [1.0]
    assert set(sample["fixed_labels"].unique().tolist()) <= set(range(36))
    assert len(sample["fixed_labels"].unique()) > 25
    assert sample["fixed_labels"].dtype == torch.int16


def test_a_file_is_read_once_for_all_grids(
    lung_2021: Path, tiny_task: Callable[..., Task], open_data: Callable[..., Dataset],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    data, loaded, read = open_data(tiny_task("lung"), lung_2021), LoadedVolumes(), []
    pair = data.split_pairs("val")[0]
    alone = [data.reader(grid).read(pair) for grid in ("half", "full")]
    monkeypatch.setattr(reader, "read_image", lambda path: read.append(path) or read_image(path))
    together = [data.reader(grid).read(pair, loaded) for grid in ("half", "full")]
    assert read == [pair.fixed.image, pair.moving.image]
    for a, b in zip(alone, together, strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a)
