from pathlib import Path

import pytest

from l2reg.cli import main


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
