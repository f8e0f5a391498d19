from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from l2reg.problems import InputError
from l2reg.training.training_task import open_training_tasks

TinyRun = Callable[..., dict[str, Any]]


def test_a_run_has_a_part_for_each_of_its_tasks(mixed_run: TinyRun, tiny_run: TinyRun) -> None:
    assert list(open_training_tasks(mixed_run(), validated=True)) == ["lung", "abdomen", "oasis"]
    (task,) = open_training_tasks(tiny_run(), validated=True).values()
    assert [pair.name for pair in task.val] == ["0001_0001"]


def test_without_validation_no_validation_pair_is_opened(tiny_run: TinyRun) -> None:
    (task,) = open_training_tasks(tiny_run(), validated=False).values()
    assert task.val == []


def test_a_folder_without_any_label_that_is_needed_is_refused(tiny_run: TinyRun) -> None:
    Path("empty").mkdir()
    config = tiny_run("data.pseudo_labels.root=empty")
    with pytest.raises(InputError, match=r"(?s)root=empty: has labels for no training scan"):
        open_training_tasks(config, validated=False)


def test_pseudo_labels_are_counted(
    tiny_run: TinyRun, half_labelled_brains: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_run("data.pseudo_labels.root=given", flavour="oasis")
    config["task"]["root"] = str(half_labelled_brains)
    (task,) = open_training_tasks(config, validated=False).values()
    task.describe()
    assert "1 of the scans with labels of given, weight 0.3\n" in capsys.readouterr().out


def test_what_is_trained_on_is_printed_and_scored_images_are_named(
    tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    (task,) = open_training_tasks(
        tiny_run("data.sampling.val_images=true"), validated=True
    ).values()
    task.describe()
    said = capsys.readouterr().out
    assert "training on 3 pairs of one patient and 0 single scans" in said
    assert "without labels and points, because their images are scored: " in said
    assert "case_001_exp.nii.gz" in said
    assert sorted(task.seen().values()) == ["image"] * 2 + ["supervised"] * 4
