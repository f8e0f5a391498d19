from types import SimpleNamespace

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from l2reg.config.presets import config_dir, preset_names
from l2reg.planning.dry_run import _objective_node, measure_step
from l2reg.planning.plan import Plan

Own = SimpleNamespace


@pytest.mark.slow
@pytest.mark.usefixtures("two_headers")
def test_a_step_is_taken_and_its_cost_told(own: Own) -> None:
    width = {"encoder": [4, 6], "decoder": [6], "final": [4]}
    plan = Plan((16, 18, 14), (2.0, 2.0, 3.0), "headers", "lncc", "unet", width, {}, [])
    data = own.data("fixed,moving\nf.nii.gz,m.nii.gz\n", val_fraction=0.0)
    cost = measure_step(data, plan, torch.device("cpu"))
    assert cost.n_parameters > 1000
    assert 0 < cost.seconds < 60
    assert cost.memory_bytes > 5e7
    assert "20000 steps take about" in str(cost)


@pytest.mark.parametrize("loss", preset_names("loss"))
def test_the_loss_of_the_dry_step_is_that_of_train_py(loss: str) -> None:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", overrides=["task=own", f"loss={loss}"])
    assert OmegaConf.to_container(config.loss, resolve=True) == _objective_node(loss)
