import pytest
from torch import nn

from l2reg.config.build import build, locate
from l2reg.config.presets import load_preset
from l2reg.data.intensity import Window
from l2reg.problems import InputError


def test_a_node_with_a_target_is_a_constructor_call() -> None:
    window = build({"_target_": "l2reg.data.intensity.Window", "low": -1.0, "high": 1.0})
    assert window == Window(low=-1.0, high=1.0)


def test_nested_nodes_and_lists_are_built_first() -> None:
    layers = [{"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 3}]
    built = build({"parts": layers, "name": "x"})
    assert isinstance(built["parts"][0], nn.Linear)
    assert built["name"] == "x"


def test_further_arguments_join_the_outermost_call() -> None:
    built = build({"_target_": "l2reg.data.intensity.Window", "low": 0.0}, high=2.0)
    assert built.high == 2.0


@pytest.mark.parametrize(
    "name",
    ["os.system", "torch.hub.load", "torch.load", "l2reg.io.files.shutil.rmtree", "l2reg.nothing.X",
     "l2reg.config.Path", "builtins.eval", "torch.nn.functional"],
)  # fmt: skip
def test_a_config_cannot_call_what_is_not_allowed(name: str) -> None:
    with pytest.raises(InputError, match="cannot be built from a config"):
        locate(name)


def test_an_unknown_key_is_refused_with_a_guess() -> None:
    with pytest.raises(InputError, match=r"(?s)unknown \['hihg'\].*did you mean 'high'"):
        build({"_target_": "l2reg.data.intensity.Window", "low": 0.0, "high": 1.0, "hihg": 2.0})


def test_a_missing_key_is_named() -> None:
    with pytest.raises(InputError, match=r"missing \['high'\]"):
        build({"_target_": "l2reg.data.intensity.Window", "low": 0.0})


def test_a_value_that_its_constructor_refuses_is_shown_with_its_config() -> None:
    with pytest.raises(InputError, match=r"(?s)config of .*Window.*low < high.*low=2.0, high=1.0"):
        build({"_target_": "l2reg.data.intensity.Window", "low": 2.0, "high": 1.0})
    nested = {"part": {"_target_": "l2reg.data.intensity.Window", "low": 0.0, "hihg": 1.0}}
    with pytest.raises(InputError, match="did you mean 'high'"):
        build({"_target_": "torch.nn.Identity", **nested})


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [("stride", "abc", "an integer"), ("radius", 2.5, "an integer"), ("stride", None, "an integer"),
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
