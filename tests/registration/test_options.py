from pathlib import Path
from typing import Any

import pytest

from l2reg.checkpoints import storage
from l2reg.problems import InputError
from l2reg.registration.options import RegisterOptions, check_values
from l2reg.registration.scan_files import ScanFiles


@pytest.fixture
def files() -> tuple[ScanFiles, ScanFiles]:
    for name in ("fixed.nii", "moving.nii", "mask.nii", "a.mat"):
        Path(name).write_text(name)
    storage.save(Path("run/last.pt"), {})
    return ScanFiles("fixed.nii", mask="mask.nii"), ScanFiles("moving.nii")


def test_a_report_has_each_file_with_its_digest_and_what_the_result_depends_on(
    files: tuple[ScanFiles, ScanFiles],
) -> None:
    options = RegisterOptions(preset="lung", initial="greedy:a.mat", ckpt="run", refine=False)
    described = options.describe(files)
    names = ["fixed.nii", "mask.nii", "moving.nii", "a.mat", "run/last.pt"]
    assert list(described["sha256"]) == names
    assert described["like"] == "lung"
    assert described["fixed"]["channels"] == []
    assert (described["initial"], described["ckpt"]) == ("greedy:a.mat", "run")
    assert described["refine"] is False
    before = described["sha256"]["run/last.pt"]
    storage.save(Path("run/last.pt"), {"other": 1})
    assert options.describe(files)["sha256"]["run/last.pt"] != before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"save": ["grid"]}, "save=.'grid'.*list of some of inverse, jacobian"),
        ({"save": "inverse"}, "save='inverse'.*remedy +save=.'inverse'."),
        ({"use": ["teeth"]}, "use=.'teeth'.*labels, points"),
        ({"prealign": "rigidly"}, "prealign='rigidly'.*auto, none, translation, rigid, affine"),
    ],
)
def test_values_that_do_not_exist_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=f"(?s){words}"):
        check_values(**{"prealign": "auto", "use": [], "save": (), **options})
