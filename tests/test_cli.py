from collections.abc import Callable
from pathlib import Path

import pytest

from l2reg.cli import main
from l2reg.data.task import Task
from l2reg.evaluation.pair_scores import PairScores
from l2reg.evaluation.rules import RULES
from l2reg.evaluation.score_files import write_scores
from l2reg.evaluation.scoring import ZERO_FIELD, SubmissionScores


def test_a_phantom_is_written_and_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "phantom"
    main(["phantom", "--flavour", "lung", "--out", str(out), "--pairs", "2", "--seed", "3"])
    said = capsys.readouterr().out
    assert f"l2reg check {out}" in said
    main(["check", str(out)])
    said = capsys.readouterr().out
    assert "1 validation pairs, 1 pairs and 0 single scans to train on, 0 problems" in said
    assert said.splitlines()[-1] == "no problems"


def test_all_problems_are_listed_and_the_exit_code_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "phantom"
    main(["phantom", "--flavour", "lung", "--out", str(out), "--pairs", "2"])
    scans = out / "task_02/training/scans"
    (scans / "case_001_exp.nii.gz").unlink()
    (scans / "case_002_exp.nii.gz").write_bytes(b"x")
    with pytest.raises(SystemExit) as stop:
        main(["check", str(out)])
    assert "case_001_exp.nii.gz: is missing" in str(stop.value.code)
    assert "case_002_exp.nii.gz: cannot be read" in str(stop.value.code)
    assert "2 problems" in capsys.readouterr().out


def test_a_root_without_data_is_refused_with_what_is_expected_of_every_task(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["check", str(tmp_path)])
    for words in ("task_01", "task_02", "task_03", "an empty folder", "grand-challenge.org"):
        assert words in str(stop.value.code)


def test_one_task_can_be_checked_alone(lung_2021: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["check", str(lung_2021), "--task", "oasis"])
    assert "holds no data of task oasis" in str(stop.value.code)
    with pytest.raises(SystemExit) as stop:
        main(["check", str(lung_2021), "--task", "lung"])
    assert str(stop.value.code).count("has another shape than its task") == 12


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["phantom", "--out", "x"]])
def test_wrong_arguments_show_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: l2reg" in capsys.readouterr().err


@pytest.mark.data
def test_the_later_layout_without_images_lists_what_is_missing(real_data: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["check", str(real_data / "l2r_later_layout"), "--task", "lung"])
    assert str(stop.value.code).count(": is missing") == 6


@pytest.fixture
def results(
    tmp_path: Path, tiny_task: Callable[..., Task], pair_scores: Callable[..., PairScores]
) -> Callable[..., Path]:
    """Write scores of lung teams, each with its landmark error in mm; the zero field has 9."""

    def written(name: str, **teams: float) -> Path:
        scored = {
            team: SubmissionScores(
                [pair_scores(f"{n}", tre_mm=[error, error + 0.1 * n]) for n in range(6)]
            )
            for team, error in {ZERO_FIELD: 9.0, **teams}.items()
        }
        write_scores(tmp_path / name, tiny_task("lung"), RULES["2021"], scored)
        return tmp_path / name

    return written


@pytest.mark.parametrize("method", ["official", "page"])
def test_teams_of_several_files_are_ranked(
    method: str, results: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(results("1.json", slow=3.0)), str(results("2.json", best=1.0))]
    main(["rank", *paths, "--method", method, "--resamples", "20"])
    said = capsys.readouterr().out
    standings = said[said.index(f"{method} ranking") :].splitlines()
    assert [line.split()[0] for line in standings[1:4]] == ["best", "slow", "zero"]
    assert "lung: ranked by" in said
    assert "without runtime; no team has one" in said


def test_a_team_ranked_twice_is_refused(results: Callable[..., Path]) -> None:
    path = str(results("1.json", best=1.0))
    with pytest.raises(SystemExit) as stop:
        main(["rank", path, path])
    assert "holds team best" in str(stop.value.code)
    with pytest.raises(SystemExit) as stop:
        main(["rank", path, "--resamples", "0"])
    assert "resamples: are too few" in str(stop.value.code)
