from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from l2reg.problems import InputError
from l2reg.training.training_task import open_training_tasks

TinyRun = Callable[..., dict[str, Any]]


def test_a_run_opens_each_of_its_tasks(mixed_run: TinyRun, tiny_run: TinyRun) -> None:
    assert list(open_training_tasks(mixed_run(), with_validation=True)) == [
        "lung",
        "abdomen",
        "oasis",
    ]
    (task,) = open_training_tasks(tiny_run(), with_validation=True).values()
    assert [pair.name for pair in task.val] == ["0001_0001"]


def test_without_validation_no_validation_pair_is_opened(tiny_run: TinyRun) -> None:
    (task,) = open_training_tasks(tiny_run(), with_validation=False).values()
    assert task.val == []


def test_a_folder_without_any_label_that_is_needed_is_refused(tiny_run: TinyRun) -> None:
    Path("empty").mkdir()
    config = tiny_run("data.pseudo_labels.root=empty")
    with pytest.raises(InputError, match=r"(?s)root=empty: has no labels for any training scan"):
        open_training_tasks(config, with_validation=False)


def test_pseudo_labels_are_counted(
    tiny_run: TinyRun, half_labelled_brains: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_run("data.pseudo_labels.root=given", flavour="oasis")
    config["task"]["root"] = str(half_labelled_brains)
    (task,) = open_training_tasks(config, with_validation=False).values()
    task.describe()
    assert "scans with pseudo-labels from given, weight 0.3: 1\n" in capsys.readouterr().out


def test_what_is_trained_on_is_printed_and_scored_images_are_named(
    tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    (task,) = open_training_tasks(
        tiny_run("data.sampling.val_images=true"), with_validation=True
    ).values()
    task.describe()
    said = capsys.readouterr().out
    assert "training on 3 intra-patient pairs and 0 single scans" in said
    assert "used without labels and points, because these images are scored: " in said
    assert "case_001_exp.nii.gz" in said
    assert sorted(task.image_uses().values()) == ["image"] * 2 + ["supervised"] * 4
