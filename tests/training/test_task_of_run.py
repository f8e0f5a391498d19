from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from l2reg.io.files import content_digest
from l2reg.training.task_of_run import TrainingTask
from l2reg.training.training_task import open_training_tasks


def test_every_image_that_is_trained_on_is_listed_once_with_its_use(
    tiny_run: Callable[..., dict[str, Any]],
) -> None:
    (task,) = open_training_tasks(tiny_run(), with_validation=True).values()
    images = {scan.image for scan in task.data.training_set.all_scans()}
    assert task.image_uses() == {content_digest(path): "supervised" for path in images}


@pytest.mark.usefixtures("two_headers")
def test_channels_of_ones_own_scans_are_trained_on_as_well(own_run: Any) -> None:
    Path("own.csv").write_text(
        "fixed,moving,fixed_channel,moving_channel\nf.nii.gz,m.nii.gz,seg_f.nii.gz,seg_m.nii.gz\n"
    )
    config = own_run("train", "model.scan_channels=2", "data.val_fraction=0.0")
    (task,) = open_training_tasks(config, with_validation=False).values()
    names = ("f.nii.gz", "m.nii.gz", "seg_f.nii.gz", "seg_m.nii.gz")
    assert task.image_uses() == {content_digest(Path(name)): "supervised" for name in names}


def test_a_task_says_what_is_wrong_with_it() -> None:
    with pytest.raises(TypeError, match="abstract"):
        TrainingTask()  # type: ignore[abstract]
