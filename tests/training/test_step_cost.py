from collections.abc import Callable
from typing import Any

import pytest

from l2reg.training.plan_run import override
from l2reg.training.setup import prepare_training
from l2reg.training.step_cost import measure_step

TinyRun = Callable[..., dict[str, Any]]


def test_a_step_is_taken_and_its_cost_told(tiny_run: TinyRun) -> None:
    trainer = prepare_training(tiny_run("trainer.validate_every=0"))
    cost = measure_step(trainer)
    numbers = sum(weight.numel() for weight in trainer.model.parameters())
    assert cost.n_parameters == numbers
    batch = sum(t.nbytes for t in trainer.batches[0].values())  # type: ignore[attr-defined]
    weights_gradients_moments = 4 * 4 * numbers
    assert cost.memory_bytes > batch + weights_gradients_moments
    assert 0 < cost.seconds < 60
    assert 0 < cost.reading_seconds < 60


@pytest.mark.slow
def test_less_memory_is_measured_where_less_is_kept(tiny_run: TinyRun) -> None:
    def measured(option: str) -> int:
        config = override(tiny_run("overwrite=true", "trainer.batch_size=2"), option)
        return measure_step(prepare_training(config)).memory_bytes

    plain = measured("")
    assert measured("trainer.activation_checkpointing=true") < 0.9 * plain
    assert measured("trainer.batch_size=1 trainer.accumulate=2") < 0.9 * plain
