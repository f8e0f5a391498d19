import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from l2reg.cli.main import main
from l2reg.config.build import build
from l2reg.config.presets import load_preset
from l2reg.data.check import compare_points
from l2reg.data.dataset import Dataset
from l2reg.data.pairs import PointFiles
from l2reg.data.point_conventions import (
    AS_SPECIFIED,
    FROM_ONE,
    PointFit,
    counted_from_one,
    likelier_convention,
    point_fits,
)
from l2reg.io.volumes import read_image, read_mask
from l2reg.phantom.make import phantom_task

OpenData = Callable[..., Dataset]
SPACING = np.array([1.75, 1.25, 1.75]) * [192 / 72, 192 / 64, 208 / 80]
WRITTEN = {
    "axes reversed": lambda rows: rows[:, [2, 1, 0, 5, 4, 3]],
    "moving scan first": lambda rows: rows[:, [3, 4, 5, 0, 1, 2]],
    "millimetres": lambda rows: rows * np.tile(SPACING, 2),
    FROM_ONE: lambda rows: rows + 1,
}


@pytest.fixture
def lungs(phantoms: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(phantoms["lung"], tmp_path / "copy"))


@pytest.fixture
def opened(lungs: Path, open_data: OpenData) -> Dataset:
    return open_data(phantom_task("lung", "small", 0, 3, root=lungs))


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    np.savetxt(path, change(np.loadtxt(path, delimiter=",")), fmt="%.3f", delimiter=",")


def point_files(root: Path) -> list[Path]:
    folder = root / "task_02/training"
    return [*sorted((folder / "lms").iterdir()), *sorted((folder / "keypoints").iterdir())]


@pytest.mark.parametrize("flavour", ["lung", "abdomen", "oasis"])
def test_phantoms_give_no_warning(
    phantoms: dict[str, Path], open_data: OpenData, flavour: str
) -> None:
    data = open_data(phantom_task(flavour, "small", 0, 3, root=phantoms[flavour]))
    assert compare_points(data) == []


@pytest.mark.data
def test_the_real_landmarks_give_no_warning(real_data: Path, open_data: OpenData) -> None:
    assert compare_points(open_data(build(load_preset("task", "lung")), real_data)) == []


@pytest.mark.parametrize("name", WRITTEN)
def test_points_in_another_convention_are_told_with_numbers(
    lungs: Path, opened: Dataset, name: str
) -> None:
    landmarks, *keypoints = point_files(lungs)
    for path in (landmarks, *keypoints):
        rewrite(path, WRITTEN[name])
    first, second = compare_points(opened)
    assert first.where == str(landmarks)
    assert second.where == ", ".join(map(str, keypoints))
    assert first.what == f"seems to hold landmarks in another convention: {name}"
    assert second.what == f"seems to hold keypoints in another convention: {name}"
    for words in ("a mismatch of", "points outside", "mm before registration as specified"):
        assert words in first.found


def test_only_the_file_at_fault_is_named(lungs: Path, opened: Dataset) -> None:
    _, good, bad = point_files(lungs)
    rewrite(bad, WRITTEN["moving scan first"])
    (warning,) = compare_points(opened)
    assert warning.where == str(bad)
    assert good != bad


def test_a_fault_that_none_of_the_conventions_explains_gives_no_warning(
    lungs: Path, opened: Dataset
) -> None:
    for path in point_files(lungs):
        rewrite(path, lambda rows: rows[:, [1, 0, 2, 4, 3, 5]])
    assert compare_points(opened) == []


def test_files_that_tell_nothing_are_left_out(lungs: Path, opened: Dataset) -> None:
    landmarks, broken, kept = point_files(lungs)
    rewrite(landmarks, lambda rows: WRITTEN["axes reversed"](rows)[:9])
    broken.write_text("no table")
    rewrite(kept, WRITTEN["axes reversed"])
    (warning,) = compare_points(opened)
    assert warning.where == str(kept)


def test_the_fit_is_that_of_a_loop_over_the_points(lungs: Path, opened: Dataset) -> None:
    """Cubes of smoothed windowed intensities at whole voxels, compared by numpy's corrcoef."""
    pair = opened.split_pairs("val")[0]
    path = point_files(lungs)[0]
    rewrite(path, np.rint)
    task = opened.release.task
    fixed, moving = pair.landmarks.read()
    images = [
        gaussian_filter(np.clip((read_image(scan.image) + 1000) / 1200, 0, 1), 1.0)
        for scan in (pair.fixed, pair.moving)
    ]
    masks = [read_mask(scan.mask) for scan in (pair.fixed, pair.moving)]
    correlations, outside = [], 0
    for p, q in zip(fixed.astype(int), moving.astype(int), strict=True):
        cubes = [
            image[x[0] - 3 : x[0] + 4, x[1] - 3 : x[1] + 4, x[2] - 3 : x[2] + 4].ravel()
            for image, x in zip(images, (p, q), strict=True)
        ]
        correlations.append(np.corrcoef(*cubes)[0, 1])
        outside += sum(not mask[tuple(x)] for mask, x in zip(masks, (p, q), strict=True))
    fit = point_fits(pair, PointFiles((path,)), task)[AS_SPECIFIED]
    assert fit.mismatch == pytest.approx(1 - np.mean(correlations), abs=1e-4)
    assert fit.n_outside == outside
    distances = [np.sqrt((((p - q) * task.spacing_mm) ** 2).sum()) for p, q in
                 zip(fixed, moving, strict=True)]  # fmt: skip
    assert fit.tre_mm == pytest.approx(np.mean(distances))


@pytest.mark.parametrize(
    ("stated", "reversed_", "likelier"),
    [
        (0.5, 0.05, "axes reversed"),
        (0.5, 0.26, None),  # more than half is left
        (0.9, 0.31, None),  # no points that correspond
        (0.05, 0.9, None),
    ],
)
def test_a_convention_is_likelier_if_its_points_clearly_correspond(
    stated: float, reversed_: float, likelier: str | None
) -> None:
    fits = {AS_SPECIFIED: PointFit(stated, 0, 5), "axes reversed": PointFit(reversed_, 0, 5)}
    assert likelier_convention(fits) == likelier
    aside = {AS_SPECIFIED: PointFit(0.5, 0, 5), FROM_ONE: PointFit(0.05, 0, 5)}
    assert likelier_convention(aside) is None


@pytest.mark.parametrize(
    ("stated", "from_one", "told"),
    [
        ((4, 0), (0, 0), False),
        ((4, 1), (0, 1), True),
        ((50, 50), (10, 11), False),
        ((0,), (9,), False),
    ],
)
def test_counting_from_one_shows_in_the_points_outside_of_all_files(
    stated: tuple[int, ...], from_one: tuple[int, ...], told: bool
) -> None:
    fits = [
        {AS_SPECIFIED: PointFit(0.05, a, 5), FROM_ONE: PointFit(0.05, b, 5)}
        for a, b in zip(stated, from_one, strict=True)
    ]
    assert counted_from_one(fits) == told


def test_the_command_prints_the_warning_and_its_exit_code_is_kept(
    lungs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(point_files(lungs)[0], WRITTEN["axes reversed"])
    main(["check", str(lungs)])
    said = capsys.readouterr().out
    assert "warning: " in said
    assert "case_001.txt: seems to hold landmarks in another convention: axes reversed" in said
    assert said.splitlines()[-1] == "no problems, 1 warning"
