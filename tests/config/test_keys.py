import re
import sys

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException

from l2reg.config.keys import check_keys, name_nearest_key, nearest_keys, require_key
from l2reg.problems import InputError


def test_an_unknown_top_level_key_is_refused() -> None:
    check_keys("train", {"task": {}, "model": {}, "seed": 0})
    check_keys("predict", {"task": {}, "ckpt": "x", "seed": 0})
    with pytest.raises(InputError, match=r"(?s)modle.*did you mean 'model'"):
        check_keys("train", {"modle": "unet"})


def test_a_missing_key_that_a_script_needs_is_refused() -> None:
    require_key("evaluate", {"task": {"name": "lung"}}, "task", "task=lung")
    with pytest.raises(InputError, match=r"(?s)needs task=.*python evaluate\.py task=lung"):
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
