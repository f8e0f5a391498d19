import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from l2reg.data.dataset import Dataset
from l2reg.evaluation.score_files import read_scores
from l2reg.evaluation.score_submissions import ZERO_FIELD
from l2reg.io.output_folders import OutputKind, claim_output_folder
from l2reg.phantom.make import phantom_task
from l2reg.problems import InputError
from l2reg.reporting.evaluate_submissions import (
    Evaluation,
    evaluate_submissions,
    name_submissions,
    slug,
)
from l2reg.submission.fields import write_field
from l2reg.submission.records import write_notes
from l2reg.submission.rules import RULES


@pytest.fixture
def how(phantoms: dict[str, Path], open_data: Callable[..., Dataset], tmp_path: Path) -> Evaluation:
    return Evaluation(
        data=open_data(phantom_task("lung", "small", 0, 3, root=phantoms["lung"])),
        split="val",
        rules=RULES["2021"],
        out=tmp_path / "out",
        overwrite=False,
        show=[],
        report=False,
        allow_missing=False,
        workers=1,
    )


@pytest.fixture
def zero(tmp_path: Path) -> Path:
    write_field(tmp_path / "zero/task_02", "0001_0001", np.zeros((3, 36, 32, 40), np.float16))
    return tmp_path / "zero"


def names(paths: Sequence[Path]) -> list[str]:
    return [path.name for path in paths]


def test_submissions_are_scored_beside_the_zero_field(
    how: Evaluation, zero: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = evaluate_submissions({"a": zero, "b/c": zero}, replace(how, report=True))
    assert names(paths) == ["scores.json", "cases.csv", "official_a.json", "official_b_c.json",
                            "report.html"]  # fmt: skip
    content, scored = read_scores(paths[0])
    assert content["task"] == "phantom"
    assert scored["a"].pairs == scored[ZERO_FIELD].pairs
    official = json.loads(paths[2].read_text())["task_02"]["aggregates"]["TRE"]["mean"]
    assert official == scored["a"].pairs[0].values()["tre_mm"]
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in table] == ["TRE", "zero", "a", "b/c"]
    assert paths[-1].stat().st_size > 50_000


def test_the_notes_of_a_submission_are_in_the_table_the_scores_and_the_report(
    how: Evaluation, zero: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    note = "trained on the images of 3 of 3 pairs <really>"
    write_notes(zero, [note])
    paths = evaluate_submissions({"a": zero}, replace(how, report=True, show=["cases"]))
    assert capsys.readouterr().out.count(f"note on a: {note}") == 2
    content, scored = read_scores(paths[0])
    assert content["submissions"]["a"]["notes"] == list(scored["a"].notes) == [note]
    assert content["submissions"][ZERO_FIELD]["notes"] == []
    assert "of 3 of 3 pairs &lt;really&gt;" in paths[-1].read_text()


def test_further_tables_are_shown_on_request(
    how: Evaluation, zero: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate_submissions({"a": zero}, replace(how, show=["cases", "labels", "statistics"]))
    said = capsys.readouterr().out
    for words in ("95 % interval", "p (Wilcoxon, Holm)", "det min", "0001_0001"):
        assert words in said
    with pytest.raises(InputError, match=r"show=label: is unknown"):
        evaluate_submissions({"a": zero}, replace(how, show=["label"]))


def test_missing_pairs_are_refused_or_said_under_every_table(
    how: Evaluation, phantoms: dict[str, Path], open_data: Callable[..., Dataset],
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    task = phantom_task("oasis", "small", 0, 3, root=phantoms["oasis"])
    (pair,) = open_data(task).split_pairs("val")
    one, two = pair.fixed.id, pair.moving.id
    (tmp_path / "pairs.csv").write_text(f"fixed,moving\n{one},{two}\n{two},{one}\n")
    both = replace(how, data=open_data(task, pairs=tmp_path / "pairs.csv"), show=["labels"])
    lacking = tmp_path / "lacking"
    half = tuple(size // 2 for size in task.shape)
    write_field(lacking / "task_03", pair.name, np.zeros((3, *half), np.float16))
    with pytest.raises(InputError, match=f"1 missing: disp_{two:04}_{one:04}"):
        evaluate_submissions({"a": lacking}, both)
    assert [path.name for path in how.out.iterdir()] == [OutputKind.EVALUATION]
    evaluate_submissions({"a": lacking}, replace(both, allow_missing=True))
    assert capsys.readouterr().out.count("INCOMPLETE") == 2


def test_an_evaluation_replaces_another_on_request_and_nothing_else_ever(
    how: Evaluation, zero: Path, tmp_path: Path
) -> None:
    evaluate_submissions({"a": zero}, how)
    before = (how.out / "scores.json").read_bytes()
    with pytest.raises(InputError, match="overwrite=true to delete this one"):
        evaluate_submissions({"b": zero}, how)
    assert (how.out / "scores.json").read_bytes() == before
    evaluate_submissions({"b": zero}, replace(how, overwrite=True))
    assert (how.out / "official_b.json").exists()
    assert not (how.out / "official_a.json").exists()  # of the evaluation before

    prediction = tmp_path / "predict_val"
    claim_output_folder(prediction, OutputKind.PREDICTION, overwrite=False)
    (prediction / "scores.json").write_text("mine")
    phantom = how.data.release.folder.parent
    for folder in (prediction, phantom, zero):
        with pytest.raises(InputError, match=r"has no \.l2reg_evaluation"):
            evaluate_submissions({"a": zero}, replace(how, out=folder, overwrite=True))
    assert (prediction / "scores.json").read_text() == "mine"


def test_the_submission_that_is_scored_is_never_deleted(how: Evaluation, zero: Path) -> None:
    evaluate_submissions({}, how)
    inside = shutil.copytree(zero, how.out / "zero")
    with pytest.raises(InputError, match="is not deleted: it is needed"):
        evaluate_submissions({"a": inside}, replace(how, overwrite=True))
    assert inside.exists()


def test_without_a_submission_the_zero_field_alone_is_scored(how: Evaluation) -> None:
    assert names(evaluate_submissions({}, replace(how, report=True))) == [
        "scores.json",
        "cases.csv",
    ]


def test_submissions_are_named_by_their_path_unless_told_otherwise() -> None:
    assert name_submissions(["a.zip", "b"]) == {"a.zip": Path("a.zip"), "b": Path("b")}
    assert name_submissions({"ours": "a.zip"}) == {"ours": Path("a.zip")}
    for path in ("a b/c=d.zip", "/x/y", "folder"):
        assert name_submissions(path) == {path: Path(path)}
    assert name_submissions(5) == {"5": Path("5")}
    assert name_submissions("~/a.zip") == {"~/a.zip": Path.home() / "a.zip"}
    assert slug("../a team: x.zip") == "a_team_x.zip"


@pytest.mark.parametrize("given", [["a", "a"], {ZERO_FIELD: "a"}])
def test_two_submissions_of_one_name_are_refused(given: list[str] | dict[str, str]) -> None:
    with pytest.raises(InputError, match="has a name twice"):
        name_submissions(given)
