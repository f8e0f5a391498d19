"""Training-free registration and the register command on a GPU."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from l2reg.cli.main import main
from l2reg.inference.predict_split import predict_split, prepare_prediction

pytestmark = pytest.mark.gpu

Composed = Callable[..., dict[str, Any]]


def predict(composed: Composed, flavour: str, device: str, *overrides: str) -> dict[str, Any]:
    given = ["task=phantom", f"device={device}", f"out={flavour}_{device}", *overrides]
    config = composed("predict", *given, flavour=flavour)
    job = prepare_prediction(config, [text.split("=")[0] for text in given])
    result = predict_split(job.predictor, job.pairs, job.out, [], job.rules)
    values: dict[str, Any] = result.scores["submission"].pairs[0].__dict__
    return values


@pytest.mark.parametrize("flavour", ["lung", "abdomen", "oasis"])
@pytest.mark.parametrize("refine", ["none", "gauss_newton"])
def test_convex_scores_on_a_gpu_as_on_a_cpu(flavour: str, refine: str, composed: Composed) -> None:
    """Not bit for bit: the search takes the best of nearly equal offsets."""
    scores = {
        device: predict(composed, flavour, device, "model=convex", f"refine={refine}")
        for device in ("cpu", "cuda")
    }
    cpu, gpu = scores["cpu"], scores["cuda"]
    if cpu["tre_mm"]:
        assert np.mean(gpu["tre_mm"]) == pytest.approx(np.mean(cpu["tre_mm"]), abs=0.05)
    for label, dice in cpu["dsc"].items():
        assert gpu["dsc"][label] == pytest.approx(dice, abs=0.02)
    assert gpu["change"].folds == pytest.approx(cpu["change"].folds, abs=1e-3)


def test_register_aligns_two_files_on_the_gpu_as_on_the_cpu(phantoms: dict[str, Path]) -> None:
    folder = phantoms["lung"] / "task_02/training/scans"
    pair = [str(folder / f"case_001_{side}.nii.gz") for side in ("exp", "insp")]
    fields = {}
    for device in ("cpu", "cuda"):
        main(["register", *pair, "--out", device, "--like", "lung", "--device", device])
        fields[device] = np.asarray(nib.load(f"{device}/transform.nii.gz").dataobj)
    difference_mm = np.linalg.norm(fields["cuda"] - fields["cpu"], axis=-1)
    assert np.median(difference_mm) < 0.1
    assert np.percentile(difference_mm, 95) < 1
    report = json.loads(Path("cuda/registration.json").read_text())
    assert report["verdict"]["flags"] == []
