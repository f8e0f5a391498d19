import torch

from l2reg.geometry.constants import constant


def test_a_constant_has_the_values_type_and_device_that_are_asked_for() -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        vector = constant(torch.empty(0, dtype=dtype), (3, 2.5, 7))
        assert torch.equal(vector, torch.tensor([3, 2.5, 7], dtype=dtype))


def test_it_is_made_once() -> None:
    like = torch.empty(0)
    assert constant(like, [4, 5, 6]) is constant(like, (4.0, 5.0, 6.0))
    assert constant(like, [4, 5, 6]) is not constant(like.double(), [4, 5, 6])


def test_one_that_inference_made_can_be_trained_with() -> None:
    with torch.inference_mode():
        vector = constant(torch.empty(0), [0.123, 0.456])
    weight = torch.ones(2, requires_grad=True)
    (weight * vector).sum().backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, vector)
