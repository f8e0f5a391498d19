from collections.abc import Callable
from typing import Any

import pytest

from l2reg.engine.parts import open_parts

TinyRun = Callable[..., dict[str, Any]]


def test_a_run_has_a_part_for_each_of_its_tasks(mixed_run: TinyRun, tiny_run: TinyRun) -> None:
    assert list(open_parts(mixed_run(), validated=True)) == ["lung", "abdomen", "oasis"]
    (part,) = open_parts(tiny_run(), validated=True).values()
    assert [pair.name for pair in part.val] == ["0001_0001"]


def test_without_validation_no_validation_pair_is_opened(tiny_run: TinyRun) -> None:
    (part,) = open_parts(tiny_run(), validated=False).values()
    assert part.val == []


def test_what_is_trained_on_is_printed_and_scored_images_are_named(
    tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    (part,) = open_parts(tiny_run("data.sampling.val_images=true"), validated=True).values()
    part.describe()
    said = capsys.readouterr().out
    assert "training on 3 pairs of one patient and 0 single scans" in said
    assert "without labels and points, because their images are scored: " in said
    assert "case_001_exp.nii.gz" in said
    assert sorted(part.seen().values()) == ["image"] * 2 + ["supervised"] * 4
