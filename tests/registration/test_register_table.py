import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from scipy.ndimage import gaussian_filter

from l2reg.cli.main import main


@pytest.fixture(autouse=True)
def shortcuts() -> Iterator[None]:
    """The field is zero, and the picture empty."""
    with (
        patch("l2reg.inference.method.Method.solve", return_value=torch.zeros(1, 3, 8, 8, 8)),
        patch(
            "l2reg.registration.register.draw_picture", side_effect=lambda path, *_: path.touch()
        ),
    ):
        yield


def results() -> list[dict[str, str]]:
    with Path("out/results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def times() -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in Path("out").rglob("*.nii.gz")}


@pytest.fixture
def table(volume: Callable[..., Path], random: np.random.Generator) -> None:
    """Three pairs of 16 voxels or fewer, of which the second one lacks its moving scan."""
    body = gaussian_filter(random.normal(size=(16, 14, 15)), 1.5).astype("f4")
    for name, part in (("a", body[1:]), ("b", body[:-1])):
        volume(Path(f"{name}.nii.gz"), part - body.min() + 0.1, (9.0, 8.0, 7.0))
    sitk.WriteImage(sitk.ReadImage("b.nii.gz"), "b.nrrd")
    np.savetxt("points.csv", [[4, 5, 6.0], [7, 6, 5]], delimiter=",")
    Path("pairs.csv").write_text(
        "fixed,moving,name,fixed_points,moving_points\n"
        "a.nii.gz,b.nii.gz,good,points.csv,points.csv\n"
        "a.nii.gz,none.nii.gz,lost\n"
        "b.nrrd,a.nii.gz\n"
    )


WORDS = ["register", "--batch", "pairs.csv", "--out", "out", "--coordinates", "voxels",
         "--device", "cpu", "--prealign", "none"]  # fmt: skip


def test_a_folder_that_cannot_be_written_to_is_refused_before_the_first_pair(table: None) -> None:
    with (
        patch(
            "l2reg.registration.register_table.register_with", side_effect=AssertionError("done")
        ),
        pytest.raises(SystemExit, match=r"/proc/x: cannot be written"),
    ):
        main([*WORDS, "--out", "/proc/x"])


def test_a_pair_that_fails_costs_no_other_and_resume_leaves_out_what_is_complete(
    table: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(WORDS)
    assert end.value.code == 1
    said = capsys.readouterr().out
    assert "results.csv: 2 registered" in said
    assert re.search(r"lost: failed \(\S+ s\)\n\S*none.nii.gz: is missing\n  expected ", said)
    good, lost, third = results()
    assert lost["status"] == "failed"
    assert "none.nii.gz: is missing; expected a" in lost["error"]
    assert third["name"] == "pair_003"
    report = json.loads(Path("out/good/registration.json").read_text())
    assert float(good["overlap"]) == pytest.approx(report["verdict"]["overlap"], abs=1e-4)
    after = np.mean(report["scores"]["after"]["tre_mm"])
    assert float(good["tre_mm_after"]) == pytest.approx(after, abs=1e-4)
    assert good["dice_after"] == third["tre_mm_after"] == ""
    assert (good["status"] == "flagged") == bool(report["verdict"]["flags"])
    before = times()
    assert len(before) == 4
    Path("out/pair_003/picture.png").unlink()
    with pytest.raises(SystemExit):
        main([*WORDS, "--resume"])
    changed = {path for path, time in times().items() if before[path] != time}
    assert changed == {"out/pair_003/warped.nii.gz", "out/pair_003/transform.nii.gz"}
    assert "good: similarity" in capsys.readouterr().out
    assert results()[0] == good


def test_a_report_names_failed_pairs_first_and_shows_the_others(
    table: None, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*WORDS, "--report"]
    for _ in range(2):
        with pytest.raises(SystemExit):
            main(words)
        assert "out/report.html" in capsys.readouterr().out
        page = Path("out/report.html").read_text()
        assert re.search(r"<li>lost failed: \S*none\.nii\.gz: is missing\n  expected", page)
        assert re.search(r"<td class='flags'>\S*none\.nii\.gz: is missing</td>", page)
        assert page.index("<td>lost</td>") < page.index("<a href='good/report.html'>good</a>")
        assert "<td>-</td>" in page
        assert "<dt>command</dt><dd>l2reg" in page
        assert page.count("<details class='pair'") == page.count("</details>") == 2
        assert page.count("<details class='pair' open>") == 1
        for name in ("good", "pair_003"):
            assert f"<h3>Pair {name}</h3>" in page
            assert f"<h3>Pair {name}</h3>" in Path(f"out/{name}/report.html").read_text()
        words = [*WORDS, "--report", "--resume"]
    before = times()
    Path("out/good/report.html").unlink()
    with pytest.raises(SystemExit):
        main(words)
    changed = {path for path, time in times().items() if before[path] != time}
    assert changed == {"out/good/warped.nii.gz", "out/good/transform.nii.gz"}


def test_other_options_or_scans_are_not_taken_for_complete(table: None) -> None:
    text = Path("pairs.csv").read_text().splitlines()
    Path("pairs.csv").write_text("\n".join(text[:2]))
    main(WORDS)
    before = times()
    main([*WORDS, "--resume"])
    assert times() == before
    main([*WORDS, "--resume", "--like", "oasis"])
    assert not set(times().values()) & set(before.values())
    before = times()
    points = Path("points.csv").read_text()
    Path("points.csv").write_text(points.replace("7.0", "7.5"))
    assert Path("points.csv").read_text() != points
    main([*WORDS, "--resume", "--like", "oasis"])
    assert not set(times().values()) & set(before.values())
    before = times()
    Path("out/good/registration.json").write_text("{")
    main([*WORDS, "--resume", "--like", "oasis"])
    assert not set(times().values()) & set(before.values())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "one scan"),
        (["a.nii.gz", "--batch", "pairs.csv"], "fixed is a column"),
        (["--batch", "pairs.csv", "--fixed-mask", "m.nii"], "fixed_mask is a column"),
        (["a.nii.gz", "b.nii.gz", "--resume"], "--resume without --batch"),
        (["--batch", "none.csv"], "none.csv: cannot be read"),
    ],
)
def test_a_table_and_two_scans_exclude_each_other(words: list[str], said: str) -> None:
    words = words or ["a.nii.gz"]
    with pytest.raises(SystemExit) as end:
        main(["register", *words, "--out", "out"])
    assert said in str(end.value.code)
    assert not Path("out").exists()


def test_the_results_never_replace_the_table(table: None) -> None:
    Path("out").mkdir()
    text = Path("pairs.csv").read_text()
    Path("out/results.csv").write_text(text)
    with pytest.raises(SystemExit, match="is an input"):
        main(["register", "--batch", "out/results.csv", "--out", "out", "--coordinates", "ras"])
    assert Path("out/results.csv").read_text() == text


def test_a_device_that_cannot_be_used_is_refused_once(table: None) -> None:
    with pytest.raises(SystemExit, match="device=cuda:99"):
        main([*WORDS, "--device", "cuda:99"])
    assert not Path("out/results.csv").exists()
