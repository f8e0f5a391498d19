import pytest

from l2reg.training.schedule import PiecewiseConstant, WarmupCosine


def test_it_rises_to_1_and_falls_to_the_floor() -> None:
    schedule = WarmupCosine(warmup=0.1, min_factor=0.05)
    factors = [schedule.factor(step, 100) for step in range(101)]
    assert factors[:10] == sorted(factors[:10])
    assert factors[10] == 1.0
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[100] == pytest.approx(0.05)
    assert min(factors) > 0


def test_the_middle_of_the_cosine_is_half_way() -> None:
    assert WarmupCosine(warmup=0.0, min_factor=0.0).factor(50, 100) == pytest.approx(0.5)


def test_it_depends_on_the_fraction_done_alone() -> None:
    schedule = WarmupCosine(warmup=0.1, min_factor=0.0)
    assert schedule.factor(30, 60) == pytest.approx(schedule.factor(300, 600))


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_very_short_runs_have_a_rate(steps: int) -> None:
    schedule = WarmupCosine(warmup=0.02, min_factor=0.01)
    assert all(0 < schedule.factor(step, steps) <= 1 for step in range(steps))


def test_impossible_fractions_are_refused() -> None:
    with pytest.raises(ValueError, match="0 <= warmup < 1"):
        WarmupCosine(warmup=1.0, min_factor=0.0)


def test_each_part_of_a_run_has_its_rate_to_the_last_step() -> None:
    schedule = PiecewiseConstant(factors=[1.0, 0.5, 0.25])
    assert [schedule.factor(step, 7) for step in range(8)] == 3 * [1.0] + 2 * [0.5] + 3 * [0.25]


@pytest.mark.parametrize("factors", [[], [0.5, 0.0], [1.5]])
def test_factors_that_are_no_rates_are_refused(factors: list[float]) -> None:
    with pytest.raises(ValueError, match=r"factors must be one or more numbers in \(0, 1\]"):
        PiecewiseConstant(factors=factors)
