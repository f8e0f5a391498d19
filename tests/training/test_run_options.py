"""Options of a run are told to be wrong before its data are looked at."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from l2reg.problems import InputError
from l2reg.training.run_options import build_network, check_options, training_settings


def test_own_data_that_are_not_planned_yet_are_not_looked_at(
    composed: Callable[..., dict[str, Any]],
) -> None:
    config = composed("train", "task=own", "data.pairs=nowhere.csv", "device=cpu")
    check_options(config)
    for changed, message in (
        ({"init_from": "none.pt"}, "none.pt: is missing"),
        ({"optimizer": config["optimizer"] | {"lr": -0.1}}, "Invalid learning rate: -0.1"),
        ({"trainer": config["trainer"] | {"precision": "half"}}, "precision: is unknown"),
        ({"optimizer": config["optimizer"] | {"lr": "abc"}}, "lr=abc: is of the wrong type"),
        ({"data": config["data"] | {"sampling": 3}}, "sampling=3: is of the wrong type"),
        ({"data": config["data"] | {"crop": "abc"}}, "crop=abc: is of the wrong type"),
        ({"task": config["task"] | {"labels": ["liver"]}}, "labels=.*: is of the wrong type"),
        ({"task": config["task"] | {"intensity": {"fixed": {"_target_": "os.mkdir"}}}}, "for in"),
    ):
        with pytest.raises(InputError, match=message):
            check_options(config | changed)
    assert not Path("run").exists()


def test_a_resumed_run_needs_no_start(tiny_run: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(InputError, match="run_dir=run: holds no run to resume"):
        check_options(tiny_run("resume=true", "init_from=none.pt"))


def test_activation_checkpointing_leaves_the_weights_of_a_network_as_they_are(
    tiny_run: Callable[..., dict[str, Any]],
) -> None:
    plain = build_network(tiny_run())
    saving = build_network(tiny_run("trainer.activation_checkpointing=true"))
    shapes = {name: value.shape for name, value in plain.state_dict().items()}
    assert {name: value.shape for name, value in saving.state_dict().items()} == shapes


def test_the_settings_of_the_loop_are_those_of_the_trainer_node(
    tiny_run: Callable[..., dict[str, Any]],
) -> None:
    assert training_settings(tiny_run("trainer.max_steps=7")).max_steps == 7
