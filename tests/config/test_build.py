from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from l2reg.config.build import build, check_targets
from l2reg.config.presets import load_preset
from l2reg.data.intensity import Window
from l2reg.problems import InputError


def test_a_node_with_a_target_is_a_constructor_call() -> None:
    window = build({"_target_": "l2reg.data.intensity.Window", "low": -1.0, "high": 1.0})
    assert window == Window(low=-1.0, high=1.0)


def test_nested_nodes_and_lists_are_built_first() -> None:
    windows = [{"_target_": "l2reg.data.intensity.Window", "low": -1.0, "high": 1.0}]
    built = build({"intensity": windows, "name": "x"})
    assert built["intensity"] == [Window(low=-1.0, high=1.0)]
    assert built["name"] == "x"


def test_further_arguments_join_the_outermost_call() -> None:
    built = build({"_target_": "l2reg.data.intensity.Window", "low": 0.0}, high=2.0)
    assert built.high == 2.0


@pytest.mark.parametrize(
    "wrap",
    [
        lambda node: node,
        lambda node: [[node]],
        lambda node: {"CT": node},
        lambda node: {"_target_": "l2reg.losses.objective.Objective", "terms": {"a": node}},
        lambda node: {"_target_": "l2reg.models.backbone.Backbone", "network": [{"deep": [node]}]},
        lambda node: {"_target_": "l2reg.models.backbone.Backbone", "channels": node},
        lambda node: {"_target_": "torch.optim.AdamW", "lr": node},
        lambda node: {"_target_": "l2reg.models.zero.Zero", "_args_": [node]},
        lambda node: {"_target_": node},
    ],
)  # fmt: skip
@pytest.mark.parametrize("slot", [None, "model", "loss", "terms", "optimizer"])
def test_a_target_that_is_not_allowed_is_refused_at_any_depth(
    wrap: Callable[[object], object], slot: str | None
) -> None:
    evil = {"_target_": "os.mkdir", "path": "made", "_partial_": False}
    for use in (build, check_targets):
        with pytest.raises(InputError, match="cannot be built from a config"):
            use(wrap(evil), slot)
    assert not Path("made").exists()


def test_a_node_knows_its_slot_from_the_key_it_stands_below() -> None:
    mind = {"_target_": "l2reg.features.mind.Mind", "radius": 1, "dilation": 1}
    assert build({"nested": [mind]}, "features")["nested"][0].radius == 1
    assert build({"features": {"nested": mind}})["features"]["nested"].radius == 1
    check_targets({"nested": [mind]}, "features")
    check_targets({"features": {"nested": mind}})
    within = {"_target_": "l2reg.models.backbone.Backbone", "network": load_preset("model", "unet")}
    with pytest.raises(InputError, match="for network: "):
        build(within, "model")
    for slot in ("model", "terms"):
        with pytest.raises(InputError, match=f"for {slot}: "):
            build({"features": mind}, slot)


@pytest.mark.parametrize(
    "value", ["${oc.env:HOME}", "a${hydra:runtime.cwd}", "${head}", "${now:%d}"]
)
def test_an_interpolation_is_refused_and_not_resolved(value: str) -> None:
    for node in (value, [value], {"_target_": "l2reg.models.zero.Zero", "grid": value}):
        with pytest.raises(InputError) as error:
            build(node)
        (problem,) = error.value.problems
        assert (problem.where, problem.found) == (value, repr(value))


def test_integers_become_text_where_the_target_declares_text() -> None:
    scan = {"_target_": "l2reg.data.task.ScanFiles", "modality": 7, "image": "a.nii.gz"}
    layout = build({"_target_": "l2reg.data.task.Layout", "folder": 2021, "fixed": scan,
                    "moving": scan, "keypoints": [1, "b"], "landmarks": [], "val": [[1, 2]],
                    "test": []})  # fmt: skip
    assert (layout.folder, layout.fixed.modality, layout.keypoints) == ("2021", "7", ["1", "b"])


def test_an_unknown_key_is_refused_with_a_guess() -> None:
    with pytest.raises(InputError, match=r"(?s)unknown \['hihg'\].*did you mean 'high'"):
        build({"_target_": "l2reg.data.intensity.Window", "low": 0.0, "high": 1.0, "hihg": 2.0})


def test_a_missing_key_is_named() -> None:
    with pytest.raises(InputError, match=r"missing \['high'\]"):
        build({"_target_": "l2reg.data.intensity.Window", "low": 0.0})


def test_a_value_that_its_constructor_refuses_is_shown_with_its_config() -> None:
    with pytest.raises(InputError, match=r"(?s)config of .*Window.*low < high.*low=2.0, high=1.0"):
        build({"_target_": "l2reg.data.intensity.Window", "low": 2.0, "high": 1.0})
    nested = {"CT": {"_target_": "l2reg.data.intensity.Window", "low": 0.0, "hihg": 1.0}}
    with pytest.raises(InputError, match="did you mean 'high'"):
        build({**load_preset("task", "lung"), "intensity": nested})


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [("smoothing_passes", "abc", "an integer"), ("smoothing_passes", 2.5, "an integer"),
     ("smoothing_passes", None, "an integer"),
     ("inverse_consistent", 3, "true or false")],
)  # fmt: skip
def test_a_value_of_the_wrong_type_is_shown_with_its_key(
    key: str, value: object, kind: str
) -> None:
    node = {**load_preset("model", "convex"), key: value}
    with pytest.raises(InputError, match=rf"(?s){key}={value}: .*expected  {kind}"):
        build(node)
    whole = {"_target_": "l2reg.data.intensity.Window", "low": -1, "high": 1}
    assert build(whole).high == 1  # an integer is a number


def test_weights_that_are_none_are_told_with_the_type_that_they_lack() -> None:
    node = load_preset(".", "loss_terms")
    with pytest.raises(InputError, match=r"(?s)weights=None: .*l2reg.*Objective.*keys whose val"):
        build({**node, "weights": None})


def test_an_error_of_another_package_is_shown_beside_the_values_that_it_is_about() -> None:
    node = {"_target_": "torch.optim.AdamW", "lr": -1.0}
    with pytest.raises(InputError) as error:
        build(node, "optimizer", params=[torch.nn.Parameter(torch.zeros(1))])
    (problem,) = error.value.problems
    assert problem.expected == "values that AdamW accepts"
    assert problem.found == "lr=-1.0: Invalid learning rate: -1.0"
