import re
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException
from omegaconf import OmegaConf

from l2reg.config.keys import (
    check_keys,
    exit_on_interpolation_error,
    name_nearest_key,
    nearest_keys,
    require_key,
)
from l2reg.config.presets import preset_names
from l2reg.problems import InputError


def test_an_unknown_top_level_key_is_refused() -> None:
    check_keys("train", {"task": {}, "model": {}, "seed": 0})
    check_keys("predict", {"task": {}, "ckpt": "x", "seed": 0})
    with pytest.raises(InputError, match=r"(?s)modle.*did you mean 'model'"):
        check_keys("train", {"modle": "unet"})
    with pytest.raises(InputError, match=r"(?s)max_step.*did you mean 'trainer.max_steps'"):
        check_keys("train", {"max_step": 3})


@pytest.mark.parametrize(
    ("key", "value"),
    [*(("overwrite", value) for value in ("maybe", 1, None, "false")),
     ("run_dir", None), ("run_dir", 3), ("init_from", 3), ("ckpt", 3), ("out", 3), ("mixed", 3)],
)  # fmt: skip
def test_switches_and_paths_have_values_of_their_kind(key: str, value: object) -> None:
    good = {"overwrite": True, "resume": False, "run_dir": "runs/a", "out": None, "mixed": {}}
    check_keys("predict", good)
    with pytest.raises(InputError, match=f"{key}={value}: has a value of the wrong kind"):
        check_keys("predict", good | {key: value})


@pytest.mark.parametrize("trust", [3, "mypkg", [3], None])
def test_trusted_packages_are_a_list_of_names(trust: object) -> None:
    check_keys("train", {"trust": ["mypkg", "other.part"]})
    with pytest.raises(InputError, match="is not a list of packages"):
        check_keys("train", {"trust": trust})


def test_a_number_of_processes_is_an_integer() -> None:
    check_keys("evaluate", {"workers": None})
    with pytest.raises(InputError, match="workers=x: has a value of the wrong kind"):
        check_keys("evaluate", {"workers": "x"})


def test_an_option_that_hydra_refuses_ends_with_one_line() -> None:
    with pytest.raises(SystemExit, match="error: only one of them"), name_nearest_key():
        raise ValueError("only one of them")


def test_ctrl_c_before_the_script_itself_ends_with_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stop, name_nearest_key():
        raise KeyboardInterrupt
    assert stop.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_missing_key_that_a_script_needs_is_refused() -> None:
    require_key("evaluate", {"task": {"name": "lung"}}, "task", "task=lung")
    with pytest.raises(InputError, match=r"(?s)needs task=.*l2reg evaluate task=lung"):
        require_key("evaluate", {}, "task", "task=lung")


def test_a_remedy_names_no_key_that_cannot_be_given() -> None:
    with pytest.raises(InputError) as error:
        check_keys("predict", {"zzz": 1})
    (problem,) = error.value.problems
    assert problem.remedy.startswith("use one of: ckpt, data, debug")
    assert "hydra" not in str(problem)
    assert "defaults" not in str(problem)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("refine.cg_iteration", "did you mean refine.cg_iterations"),
        ("trainer.max_step", "did you mean trainer.max_steps"),
        ("loss.weights.dcie", "did you mean loss.weights.dice"),
        ("task.spacing", "did you mean task.spacing_mm"),
        ("max_steps", "did you mean trainer.max_steps"),
        ("rotatoin_deg", r"did you mean data\.augment\.rotation_deg"),
        ("model.smoothness", "did you mean loss.*smoothness or smoothness"),  # not this one
        ("refine.solver", "the keys there are .*refine.cg_iterations"),
        ("nothing.like.it", "--cfg job prints all keys"),
    ],
)
def test_an_unknown_dotted_key_is_told_with_the_nearest_ones(key: str, words: str) -> None:
    assert re.search(words, nearest_keys(key))


def test_nothing_is_said_where_another_error_ended_the_program(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit), name_nearest_key():
        raise SystemExit(3)
    assert capsys.readouterr().err == ""


def test_a_value_that_hydra_cannot_read_is_told_to_be_quoted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit), name_nearest_key():
        try:
            OverridesParser.create().parse_overrides(["submission=~/a.zip"])
        except OverrideParseException:
            sys.exit(1)
    assert """'submission="~/a=b.zip"'""" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option",
    ["model=null", "task=null", "data=Null", "loss=", "model=3", "loss=-1.5e3", "task=True"],
)
def test_a_group_that_is_null_ends_the_program_with_its_choices(
    monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "seed=null", option])
    group = option.split("=", maxsplit=1)[0]
    words = f"^error: {option}: use one of .*{preset_names(group)[0]}.*leave {group}= out$"
    with pytest.raises(SystemExit, match=words), name_nearest_key():
        pytest.fail("Hydra was started")


def test_a_value_without_a_key_ends_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "trainer.max_steps", "=1"])
    with pytest.raises(SystemExit, match=r"^error: =1: has no key"), name_nearest_key():
        pytest.fail("Hydra was started")


def test_null_is_a_value_of_keys_that_are_no_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["predict.py", "out=null", "data.cache=null", "a/model=null"])
    is_started = False
    with name_nearest_key():
        is_started = True
    assert is_started


@pytest.mark.parametrize(
    ("value", "words"), [("${nothing}", "'nothing' not found"), ("${oc.env:L2REG_NO}", "L2REG_NO")]
)
def test_a_value_that_cannot_be_resolved_ends_the_program_with_one_line(
    value: str, words: str
) -> None:
    config = OmegaConf.create({"a": {"b": value}})
    with pytest.raises(SystemExit, match=f"^error: a.b: .*{words}.*; write the value itself$"):
        with exit_on_interpolation_error():
            OmegaConf.to_container(config, resolve=True)


@pytest.mark.parametrize("option", [["--config-dir", "own"], ["--config-dir=own"], ["-cd", "own"]])
@pytest.mark.parametrize("content", ["a: [1", "a: &a [*a]", "- 1", "# @p\na: 1"])
def test_a_users_file_that_is_no_yaml_is_named(
    option: list[str], content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path("own/experiment/mine.yaml")
    path.parent.mkdir(parents=True)
    path.write_text("a: 1\n")
    monkeypatch.setattr(sys, "argv", ["train.py", *option])
    with name_nearest_key():
        pass
    path.write_text(content)
    with pytest.raises(SystemExit, match=r"own/experiment/mine\.yaml: cannot be read as YAML"):
        with name_nearest_key():
            pass


@pytest.mark.parametrize("key", ["loss", "trainer", "data", "optimizer", "scheduler"])
@pytest.mark.parametrize("value", ["x", None, 3, []])
def test_a_group_has_keys_and_values(key: str, value: object) -> None:
    check_keys("train", {key: {}})
    with pytest.raises(InputError, match=f"{key}=.*: has a value of the wrong kind"):
        check_keys("train", {key: value})
