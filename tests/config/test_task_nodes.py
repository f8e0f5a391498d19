from typing import Any

import pytest

from l2reg.config.task_nodes import (
    check_mixed_tasks,
    node_name,
    overrides_by_task,
    own_exclusions,
    prediction_keys,
    scan_channels,
    single_task_config,
    task_nodes,
)
from l2reg.problems import InputError


@pytest.mark.parametrize("only", [[], ["lnug"], ["lung", "lung"]])
def test_lists_of_tasks_that_cannot_be_mixed_are_refused(only: list[str]) -> None:
    check_mixed_tasks(["oasis", "lung"], ["abdomen", "lung", "oasis"])
    with pytest.raises(InputError, match="different tasks out of abdomen, lung, oasis"):
        check_mixed_tasks(only, ["abdomen", "lung", "oasis"])


def test_a_list_of_pairs_is_that_of_ones_own_scans_alone() -> None:
    given = ["task=mixed", "mixed.only=[own,lung]", "seed=3", "data.pairs=my.csv"]
    assert overrides_by_task(given, ["own", "lung"]) == {
        "own": ["seed=3", "data.pairs=my.csv"],
        "lung": ["seed=3"],
    }
    assert overrides_by_task(given[:3], ["lung"]) == {"lung": ["seed=3"]}
    assert overrides_by_task(given, ["own"]) == {"own": ["seed=3", "data.pairs=my.csv"]}


def test_settings_of_data_go_to_the_tasks_that_know_them() -> None:
    given = ["data.root=scans", "++data.coordinates=ras", "data.augment.noise=0.1"]
    assert overrides_by_task(given, ["own", "lung", "oasis"]) == {
        "own": given[1:],
        "lung": given[::2],
        "oasis": given[::2],
    }
    assert overrides_by_task(given, ["lung"]) == {"lung": given}  # whose fault Hydra tells


def test_an_exclusion_of_a_mixed_run_is_of_the_task_that_it_names() -> None:
    given = ["lung/3", "oasis/0003", "lung/case_001_exp", None]
    names = ["lung", "abdomen", "oasis"]
    assert [own_exclusions(given, name, names) for name in names] == [
        ["3", "case_001_exp"],
        [],
        ["0003"],
    ]
    assert own_exclusions("lung/3", "lung", names) == ["3"]
    for nothing in (None, []):
        assert own_exclusions(nothing, "lung", names) == []


@pytest.mark.parametrize("entry", [3, "3", "phantom/3", "lung/", "/3", ""])
def test_an_exclusion_of_a_mixed_run_that_names_no_task_of_it_is_refused(entry: object) -> None:
    for entries in (entry, ["oasis/1", entry]):
        for task in ("lung", "oasis"):
            with pytest.raises(InputError) as error:
                own_exclusions(entries, task, ["lung", "oasis"])
            (problem,) = error.value.problems
            assert problem.where == f"data.exclude={entry}"
            (remedy,) = problem.remedy.removeprefix("data.exclude=[").removesuffix("]").split(",")
            assert own_exclusions(remedy, "lung", ["lung", "oasis"]) != []


def test_a_network_takes_one_channel_unless_its_node_says_how_many() -> None:
    assert scan_channels({"_target_": "l2reg.models.vfa.VFA"}) == 1
    assert scan_channels({"scan_channels": 3}) == 3


@pytest.mark.parametrize("plus", ["", "+", "++"])
def test_a_list_of_pairs_is_refused_where_it_could_be_of_any_task(plus: str) -> None:
    with pytest.raises(InputError, match=r"(?s)data\.pairs=a\.csv with task=mixed.*task=lung"):
        overrides_by_task([f"{plus}data.pairs=a.csv"], ["lung", "oasis"])


MIXED = {
    "task": None,
    "model": {"name": "unet"},
    "mixed": {"tasks": {"lung": {"task": {"name": "lung"}}, "oasis": {"task": {"name": "oasis"}}}},
}


def test_a_run_of_one_task_is_its_own_node_and_a_mixed_run_has_one_for_each_task() -> None:
    assert list(task_nodes(MIXED)) == ["lung", "oasis"]
    assert task_nodes({"task": {"name": "lung"}}) == {"": {"task": {"name": "lung"}}}


def test_one_task_of_a_mixed_run_has_the_config_of_a_run_of_its_own() -> None:
    alone = single_task_config(MIXED, "oasis")
    assert alone == {"task": {"name": "oasis"}, "model": {"name": "unet"}, "mixed": None}
    assert single_task_config(alone, None) == alone


@pytest.mark.parametrize("name", [None, "lnug"])
def test_a_mixed_run_asks_for_the_task(name: str | None) -> None:
    with pytest.raises(InputError, match=r"(?s)one of task=lung, task=oasis.*add task=lung"):
        single_task_config(MIXED, name)


def test_a_node_is_named_by_its_key_or_by_its_module() -> None:
    assert node_name({"name": "lung", "_target_": "l2reg.data.task.Task"}) == "lung"
    assert node_name({"_target_": "l2reg.models.unet.UNet"}) == "unet"


@pytest.mark.parametrize(
    ("config", "keys"),
    [
        ({"task": {"name": "lung"}}, "ckpt=runs/a"),
        ({"mixed": {"tasks": {}}}, "ckpt=runs/a task=..."),
        ({"task": None}, "task=... model=convex_learned model.features.learned.weights=runs/a"),
    ],
)
def test_weights_are_used_as_a_network_or_as_descriptors(config: dict[str, Any], keys: str) -> None:
    assert prediction_keys(config, "runs/a") == keys
