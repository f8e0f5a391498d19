import math

from l2reg.training.run_files import flatten, step_of


def test_nested_values_have_dotted_keys() -> None:
    nested = {"a": {"b": {1: 2}, "c": [3]}, "d": None}
    assert dict(flatten(nested)) == {"a.b.1": 2, "a.c": [3], "d": None}


def test_a_broken_line_is_of_no_step() -> None:
    assert step_of('{"step": 7, "train/loss": 1.0}') == 7
    for line in ("", '{"step"', "12", "null", '{"loss": 1}'):
        assert step_of(line) == math.inf
