import pytest

from l2reg.config.keys import check_keys, require_key
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
