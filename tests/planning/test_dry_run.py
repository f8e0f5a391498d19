import re
from types import SimpleNamespace

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from l2reg.config.presets import config_dir, preset_names
from l2reg.planning.dry_run import _objective_node, describe_step
from l2reg.planning.plan import Plan

Own = SimpleNamespace


@pytest.mark.slow
@pytest.mark.usefixtures("two_headers")
def test_a_step_is_taken_and_its_cost_told(own: Own) -> None:
    width = {"encoder": [4, 6], "decoder": [6], "final": [4]}
    plan = Plan((16, 18, 14), (2.0, 2.0, 3.0), "headers", "lncc", "unet", width, 1, {}, [])
    data = own.data("fixed,moving\nf.nii.gz,m.nii.gz\n", val_fraction=0.0)
    told = describe_step(data, plan, torch.device("cpu"))
    assert re.match(r"one step on cpu: \d+\.\d\d s and \d+\.\d\d GB \(\d,\d+ weights", told)
    assert "20000 steps take about" in told


@pytest.mark.parametrize("loss", preset_names("loss"))
def test_the_loss_of_the_dry_step_is_that_of_train_py(loss: str) -> None:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", overrides=["task=own", f"loss={loss}"])
    assert OmegaConf.to_container(config.loss, resolve=True) == _objective_node(loss)
