import torch

from l2reg.training.scalars import mean_over_ranks, not_finite, sum_terms


def test_the_parts_of_a_batch_are_summed_term_by_term() -> None:
    parts = [
        {"a": torch.tensor(1.0), "b": torch.tensor(5.0)},
        {"a": torch.tensor(2.0), "b": torch.tensor(-5.0)},
    ]
    assert {n: t.item() for n, t in sum_terms(parts).items()} == {"a": 3.0, "b": 0.0}


def test_one_rank_has_its_own_values() -> None:
    assert mean_over_ranks({"a": torch.tensor(1.5, requires_grad=True)}) == {"a": 1.5}


def test_every_value_of_a_spoilt_step_is_told() -> None:
    assert not_finite(7, {"mse": 0.5, "dice": float("nan")}).found == "mse 0.5, dice nan"
