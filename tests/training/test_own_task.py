import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from l2reg.losses.mse import MSE
from l2reg.losses.objective import Objective
from l2reg.models.prediction import Prediction
from l2reg.problems import InputError
from l2reg.training.own_task import OwnTask
from l2reg.training.setup import prepare_training

Own = SimpleNamespace
LOSS = Objective({"similarity": MSE()}, {"similarity": 1.0})


class Shift(torch.nn.Module):
    """Moves everything by one voxel of the working grid to the right."""

    grid = "half"

    def forward(self, batch: Any) -> Prediction:
        disp = torch.zeros(1, 3, *batch["fixed"].shape[2:])
        disp[:, 0] = 1.0
        return Prediction(disp)


def validate(own: Own, row: str) -> tuple[dict[str, float], float]:
    text = "fixed,moving,fixed_labels,moving_labels,fixed_points,moving_points,split\n"
    data = own.data(f"{text}{row},val\n", coordinates="ras")
    task = OwnTask(data, LOSS, data.split_pairs("val"))
    return task.validation(Shift(), torch.device("cpu"), "float32").score()


@pytest.mark.usefixtures("two_headers")
def test_points_are_scored_in_millimetres_of_the_world(own: Own) -> None:
    scores, quality = validate(own, "f.nii.gz,m.nii.gz,,,f.csv,m.csv")
    voxel_mm = 2.0 * 15 / 7  # 16 voxels of 2 mm, as 8 with the same corners
    assert scores["val/tre_mm"] == pytest.approx(voxel_mm, rel=1e-5)
    assert quality == -scores["val/tre_mm"]
    assert "val/dsc" not in scores


@pytest.mark.usefixtures("two_headers")
def test_labels_are_scored_where_there_are_some_and_else_the_loss(own: Own) -> None:
    scores, quality = validate(own, "f.nii.gz,m.nii.gz,seg_f.nii.gz,seg_m.nii.gz,,")
    assert 0.3 < scores["val/dsc"] == quality < 0.9
    scores, quality = validate(own, "f.nii.gz,m.nii.gz,,,,")
    assert quality == -scores["val/loss"] < 0


@pytest.mark.slow
@pytest.mark.usefixtures("two_headers")
def test_single_scans_train_and_say_what_they_do(
    own: Own, own_run: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    shape, affine = own.moving
    for n, name in enumerate(("n.nii.gz", "o.nii.gz")):
        own.write(name, shape, affine, lambda p, n=n: p + np.array([[n + 1.0], [0], [0]]))
    Path("own.csv").write_text("scan,labels\n" + "".join(f"{n}.nii.gz,seg_{n}.nii.gz\n"
                                                         for n in "fmno"))  # fmt: skip
    prepare_training(own_run("train", "data.start=centres")).run()
    said = capsys.readouterr().out
    assert "single scans, paired across people: 2 train, 2 val" in said
    assert "the table has no column subject: each scan is taken as a person of its own" in said
    assert "best so far" in said
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert np.isfinite(lines[-1]["val/dsc"])


@pytest.mark.usefixtures("two_headers")
def test_faulty_files_stop_a_run_before_anything_is_written(
    own_run: Callable[..., dict[str, Any]],
) -> None:
    Path("own.csv").write_text("fixed,moving,split\nf.nii.gz,m.nii.gz,train\nf.nii.gz,x.nii,val\n")
    with pytest.raises(InputError, match="is in two splits"):
        prepare_training(own_run("train"))
    Path("own.csv").write_text("fixed,moving,split\nf.nii.gz,x.nii,train\nm.nii.gz,y.nii,val\n")
    with pytest.raises(InputError, match=r"(?s)x.nii: is missing.*y.nii: is missing"):
        prepare_training(own_run("train"))
    assert not Path("run").exists()
