from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from l2reg.planning.fingerprint import Fingerprint
from l2reg.planning.plan import propose, write_plan

Own = SimpleNamespace


def facts(**changes: Any) -> Fingerprint:
    plain = Fingerprint(
        n_rows=10,
        paired=True,
        n_subjects=10,
        spacings_mm=np.array([[1.0, 1.5, 3.0]] * 9 + [[0.4, 0.5, 1.0]]),
        extents_mm=np.array([[100.0, 90.0, 60.0]] * 10),
        shapes=((100, 60, 20), (200, 120, 40)),
        orientations={"LPS": 20},
        overlaps=[0.9] * 10,
        n_channels=1,
        modalities={"fixed": {"other": 4}, "moving": {"CT": 4}},
        intensities={"fixed": (0.0, 1.0, 2.0), "moving": (-1000.0, 0.0, 500.0)},
        presets={"abdomen": 4},
        reason="one is a CT",
        contrasts=[0.0] * 4,
        displacements_mm=[],
        n_labelled=0,
    )
    return replace(plain, **changes)


def test_the_grid_covers_the_scans_with_the_median_spacing_if_that_fits() -> None:
    plan = propose(facts(), "cuda")
    assert plan.spacing_mm == (1.0, 1.5, 3.0)
    assert plan.shape == (112, 64, 32)  # 101, 61 and 21 voxels, in steps of 16
    small = propose(facts(), "cuda", max_voxels=60_000)
    assert np.prod(small.shape) <= 60_000
    covered = np.array(small.spacing_mm) * (np.array(small.shape) - 1)
    assert (covered >= [100, 90, 60]).all()
    assert small.spacing_mm[0] == pytest.approx(small.spacing_mm[1], rel=0.05)  # isotropic first
    assert small.spacing_mm[2] == pytest.approx(3.0)
    assert "too fine for 60,000 voxels" in small.reasons[0]


def test_an_outlier_is_cropped_and_counted() -> None:
    extents = np.array([[100.0, 90.0, 60.0]] * 29 + [[900.0, 90.0, 60.0]])
    plan = propose(facts(extents_mm=extents, spacings_mm=np.array([[1.0, 1.5, 3.0]] * 30)), "cuda")
    assert plan.shape == (112, 64, 32)
    assert "1 scan cropped" in plan.reasons[0]


@pytest.mark.parametrize(
    ("changes", "loss"),
    [
        ({}, "mind"),  # CT and MR
        ({"modalities": {"fixed": {"CT": 4}, "moving": {"CT": 4}}}, "mind"),
        ({"modalities": {"fixed": {"other": 4}, "moving": {"other": 4}}}, "mind"),
        ({"modalities": {"fixed": {"other": 4}, "moving": {"other": 4}},
          "contrasts": [0.5, 0.1, 0.6]}, "lncc"),
        ({"modalities": {"scan": {"other": 4}}, "paired": False}, "lncc"),
    ],
)  # fmt: skip
def test_the_loss_follows_the_contrasts(changes: dict[str, Any], loss: str) -> None:
    assert propose(facts(**changes), "cuda").loss == loss


def test_starts_networks_and_windows_follow_the_facts() -> None:
    plan = propose(facts(), "cuda")
    assert (plan.start, plan.model, plan.width) == ("headers", "unet", {})
    assert plan.task["intensity"]["moving"]["low"] == -1000
    assert plan.task["intensity"]["fixed"]["_target_"].endswith("Percentiles")
    assert propose(facts(overlaps=[0.2, 0.3, 0.9]), "cuda").start == "centres"
    single = facts(paired=False, modalities={"scan": {"other": 2}}, overlaps=[0.8, 0.95])
    assert propose(single, "cuda").start == "centres"
    assert propose(replace(single, overlaps=[0.95, 1.0]), "cuda").start == "headers"
    far = propose(facts(displacements_mm=[60.0] * 9), "cpu")
    assert far.model == "pyramid"
    assert far.width == {"features": [8, 16, 16], "estimator": [16, 16, 16]}
    mixed = facts(modalities={"fixed": {"other": 3, "CT": 1}, "moving": {"CT": 4}})
    assert any("are mixed in one column" in reason for reason in propose(mixed, "cpu").reasons)


def test_a_plan_is_written_as_an_experiment(own: Own) -> None:
    del own
    plan = propose(facts(), "cpu")
    write_plan(Path("plans/experiment/my.yaml"), plan, facts(), Path("my.csv"), "ras")
    text = Path("plans/experiment/my.yaml").read_text()
    assert text.startswith("# @package _global_\n# Proposed by l2reg plan my.csv\n")
    content = yaml.safe_load(text)
    assert content["task"] == plan.task
    assert content["data"]["coordinates"] == "ras"
    assert content["model"]["encoder"] == [8, 16, 16, 24, 32]


def test_several_channels_are_those_of_the_network_and_have_windows(own: Own) -> None:
    del own
    modalities = {"fixed": {"CT": 4}, "fixed_channel_1": {"other": 4}, "moving": {"CT": 4},
                  "moving_channel_1": {"other": 4}}  # fmt: skip
    several = facts(n_channels=2, modalities=modalities, intensities=dict.fromkeys(modalities, (
        0.0, 1.0, 2.0)))  # fmt: skip
    plan = propose(several, "cuda")
    assert plan.network == {"scan_channels": 2}
    assert plan.task["intensity"]["moving"]["_target_"].endswith("Window")
    assert plan.task["intensity"]["moving_channel_1"]["_target_"].endswith("Percentiles")
    write_plan(Path("my.yaml"), plan, several, Path("my.csv"), None)
    assert yaml.safe_load(Path("my.yaml").read_text())["model"] == {"scan_channels": 2}
