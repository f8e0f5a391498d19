from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from l2reg.data.dataset import Dataset
from l2reg.data.pairs import Pair, Scan
from l2reg.data.task import Task
from l2reg.evaluation import score_submissions as scoring
from l2reg.evaluation.pair_scores import PairScores
from l2reg.evaluation.score_submissions import ZERO_FIELD, SubmissionScores, score_submissions
from l2reg.phantom.make import phantom_task
from l2reg.problems import InputError
from l2reg.submission.bundle import Submission, open_submission
from l2reg.submission.fields import to_submission, write_field
from l2reg.submission.records import write_timings
from l2reg.submission.rules import RULES

OLD = RULES["2021"]
HALF = (3, 36, 32, 40)


@pytest.fixture
def task(phantoms: dict[str, Path]) -> Task:
    return phantom_task("lung", "small", 0, 3, root=phantoms["lung"])


@pytest.fixture
def pairs(task: Task, open_data: Callable[..., Dataset]) -> list[Pair]:
    """Three pairs with landmarks: one for validation, under three ids."""
    (pair,) = open_data(task).split_pairs("val")
    fixed, moving = pair.fixed, pair.moving
    return [
        replace(pair, fixed=replace(fixed, id=n, official_id=n),
                moving=replace(moving, id=n, official_id=n))
        for n in (1, 2, 3)
    ]  # fmt: skip


def submission(folder: Path, values: dict[int, float]) -> Submission:
    for number, value in values.items():
        field = np.full(HALF, value, np.float16)
        write_field(folder / "task_02", f"{number:04}_{number:04}", field)
    return Submission(
        folder,
        {f"{n:04}_{n:04}": f"task_02/disp_{n:04}_{n:04}.npz" for n in values},
        {f"{n:04}_{n:04}": f"{n:04}_{n:04}" for n in (1, 2, 3)},
    )


@pytest.mark.parametrize("flavour", ["lung", "abdomen", "oasis"])
def test_the_true_field_scores_far_better_than_the_zero_field_after_the_whole_way(
    phantoms: dict[str, Path], open_data: Callable[..., Dataset], tmp_path: Path, flavour: str
) -> None:
    task = phantom_task(flavour, "small", 0, 3, root=phantoms[flavour])
    pair = open_data(task).split_pairs("val")[0]
    true = np.load(phantoms[flavour] / task.folder / f"truth/disp_{pair.name}.npz")["arr_0"]
    (half,) = to_submission(torch.from_numpy(true.astype(np.float32))[None], task.shape)
    write_field(tmp_path / task.folder, pair.name, half)
    submissions = {"true": open_submission(tmp_path, task, [pair], RULES["2021"])}
    found = score_submissions(submissions, [pair], task, OLD)
    before, after = (found[name].pairs[0].values() for name in (ZERO_FIELD, "true"))
    if flavour == "lung":
        assert before["tre_mm"] > 15
        assert after["tre_mm"] < 0.3
    else:
        assert after["dsc"] > before["dsc"] + 0.15
        assert after["hd95_voxels"] < before["hd95_voxels"]
    assert after["folds"] == 0


def test_the_current_rules_read_full_fields_component_last(
    task: Task, pairs: list[Pair], tmp_path: Path
) -> None:
    disp = np.full((3, *task.shape), 1.5, np.float32)
    moved = nib.Nifti1Image(np.moveaxis(disp, 0, 3), np.eye(4))
    (tmp_path / "full").mkdir()
    nib.save(moved, tmp_path / "full/disp_0001_0001_0001_0001.nii.gz")
    new = open_submission(tmp_path / "full", task, pairs[:1], RULES["current"])
    old = submission(tmp_path / "half", {1: 1.5})
    full = score_submissions({"a": new}, pairs[:1], task, RULES["current"])["a"].pairs[0]
    half = score_submissions({"a": old}, pairs[:1], task, OLD)["a"].pairs[0]
    assert full.tre_mm == pytest.approx(half.tre_mm, abs=1e-5)
    assert full.tre_mm != score_submissions({}, pairs[:1], task, OLD)[ZERO_FIELD].pairs[0].tre_mm


def test_all_missing_fields_of_all_submissions_are_named_at_once(
    task: Task, pairs: list[Pair], tmp_path: Path
) -> None:
    submissions = {
        "a": submission(tmp_path / "a", {1: 0, 2: 0}), "b": submission(tmp_path / "b", {2: 0})
    }  # fmt: skip
    with pytest.raises(InputError) as error:
        score_submissions(submissions, pairs, task, OLD)
    for words in ("1 missing: disp_0003_0003", "2 missing: disp_0001_0001, disp_0003",
                  "allow_missing=true"):  # fmt: skip
        assert words in str(error.value)


def test_the_rest_is_scored_on_request_and_what_is_missing_is_known(
    task: Task, pairs: list[Pair], tmp_path: Path
) -> None:
    submissions = {"a": submission(tmp_path / "a", {1: 0, 3: 1})}
    write_timings(tmp_path / "a", {"0001_0001": 0.25})
    found = score_submissions(submissions, pairs, task, OLD, allow_missing=True)
    assert [score.pair for score in found[ZERO_FIELD].pairs] == [pair.name for pair in pairs]
    assert [score.pair for score in found["a"].pairs] == ["0001_0001", "0003_0003"]
    assert found["a"].missing == ["0002_0002"]
    assert found["a"].seconds == {"0001_0001": 0.25}
    assert found["a"].pairs[0].tre_mm == found[ZERO_FIELD].pairs[0].tre_mm


def test_the_same_field_is_never_scored_twice_but_a_changed_one_is(
    task: Task, pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = []
    score = scoring.score_field

    def counting(name: str, *arguments: object, **more: object) -> PairScores:
        computed.append(name)
        return score(name, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(scoring, "score_field", counting)

    def scored() -> dict[str, SubmissionScores]:
        submissions = {"a": open_submission(tmp_path / "a", task, pairs[:2], RULES["2021"])}
        return score_submissions(submissions, pairs[:2], task, OLD, cache=tmp_path / "cache")

    submission(tmp_path / "a", {1: 0, 2: 1})
    first = scored()
    assert len(computed) == 4
    assert scored() == first
    assert len(computed) == 4
    damaged = sorted((tmp_path / "cache/scores").iterdir())[:3]
    for path, left in zip(damaged, ("", '{"pair": "00', "{}"), strict=True):
        path.write_text(left)
    assert scored() == first
    assert len(computed) == 7
    submission(tmp_path / "a", {2: 2})
    assert scored()["a"].pairs[0] == first["a"].pairs[0]
    assert computed[7:] == ["0002_0002"]


def test_processes_give_the_same_scores_in_the_same_order(
    task: Task, pairs: list[Pair], tmp_path: Path
) -> None:
    submissions = {"a": submission(tmp_path / "a", {1: 0, 2: 1, 3: 2})}
    alone = score_submissions(submissions, pairs, task, OLD)
    assert score_submissions(submissions, pairs, task, OLD, workers=2) == alone


def test_a_spoilt_field_stops_the_processes_with_its_own_message(
    task: Task, pairs: list[Pair], tmp_path: Path
) -> None:
    submissions = {"a": submission(tmp_path / "a", {1: 0, 2: np.nan})}
    with pytest.raises(InputError, match=r"disp_0002_0002\.npz: has values that are not num"):
        score_submissions(submissions, pairs[:2], task, OLD, workers=2)


def test_a_process_that_is_killed_is_told_as_such(
    monkeypatch: pytest.MonkeyPatch, tiny_task: Callable[..., Task]
) -> None:
    class Pool:
        def __init__(self, *_: object) -> None: ...

        def __enter__(self) -> "Pool":
            return self

        def __exit__(self, *_: object) -> None: ...

        def submit(self, *_: object) -> Future[PairScores]:
            future: Future[PairScores] = Future()
            future.set_exception(BrokenProcessPool("terminated abruptly"))
            return future

        def shutdown(self, **_: object) -> None: ...

    monkeypatch.setattr(scoring, "ProcessPoolExecutor", Pool)
    scan = Scan(id=1, official_id=1, modality="CT", image=Path("x"), labels=None, mask=None)
    job = scoring._Job(None, Pair(fixed=scan, moving=scan), tiny_task("lung"), RULES["2021"])
    with pytest.raises(InputError, match=r"workers=2: lost a process"):
        list(scoring._run_jobs({("a", "1"): job, ("a", "2"): job}, 2))
