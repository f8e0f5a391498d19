from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from l2reg.problems import InputError
from l2reg.training.plan_run import override, plan_run

TinyRun = Callable[..., dict[str, Any]]


def test_an_option_changes_its_keys_and_leaves_the_config_alone() -> None:
    config = {"trainer": {"batch_size": 2, "accumulate": 1}, "seed": 0}
    changed = override(config, "trainer.batch_size=1 trainer.accumulate=2")
    assert changed == {"trainer": {"batch_size": 1, "accumulate": 2}, "seed": 0}
    assert config["trainer"] == {"batch_size": 2, "accumulate": 1}
    assert override(config, "") == config


@pytest.mark.slow
def test_a_plan_has_a_row_for_every_option_and_starts_no_run(tiny_run: TinyRun) -> None:
    table = plan_run(tiny_run("trainer.max_steps=7200")).splitlines()
    rows = {line.split("  ")[0]: line.split() for line in table}
    for name in ("as it is", "trainer.activation_checkpointing=true", "trainer.precision=bf16"):
        *_, seconds, gigabytes, hours = rows[name]
        assert 2 * float(seconds) == pytest.approx(float(hours), abs=0.1)
        assert float(gigabytes) >= 0
    assert "weights; the first batch is read in" in table[-2]
    assert not Path("run").exists()


def test_a_plan_of_incorrect_options_is_refused(tiny_run: TinyRun) -> None:
    with pytest.raises(InputError, match=r"trainer\.symmetric=true"):
        plan_run(tiny_run("loss.weights.inverse_consistency=1"))
