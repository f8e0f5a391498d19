import pytest

from l2reg.config.build import build
from l2reg.config.presets import CHALLENGE_TASKS, load_preset
from l2reg.problems import InputError


def test_a_part_can_be_read_without_hydra() -> None:
    assert load_preset("task", "lung")["number"] == 2
    assert load_preset("model", "zero")["grid"] == "half"


def test_an_unknown_part_lists_the_known_ones() -> None:
    with pytest.raises(
        InputError, match=r"(?s)abdomen, lung, mixed, oasis, own, phantom.*did you mean 'lung'"
    ):
        load_preset("task", "lnug")


def test_the_challenge_tasks_are_the_presets_with_an_official_number() -> None:
    numbers = {name: build(load_preset("task", name)).number for name in CHALLENGE_TASKS}
    assert numbers == {"abdomen": 1, "lung": 2, "oasis": 3}
