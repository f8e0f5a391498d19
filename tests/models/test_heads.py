import pytest
import torch
from torch import nn

from l2reg.geometry.compose import compose, integrate
from l2reg.models.heads import FieldHead, as_prediction, integrate_gradient


def test_a_velocity_head_integrates_so_that_its_flow_has_an_inverse(rng: torch.Generator) -> None:
    head = FieldHead("velocity", 4)
    nn.init.normal_(head.conv.weight, std=0.05)
    features = torch.nn.functional.interpolate(
        torch.randn(1, 4, 4, 4, 5, generator=rng), size=(16, 18, 20), mode="trilinear"
    )
    prediction = head(features, (16, 18, 20))
    assert prediction.velocity is not None
    backward = integrate(-prediction.velocity, squarings=7)
    forward = prediction.disp
    inner = (..., slice(4, -4), slice(4, -4), slice(4, -4))
    assert forward[inner].abs().max() > 0.2
    assert compose(backward, forward)[inner].abs().max() < 0.1 * forward[inner].abs().max()


def test_a_field_estimated_on_a_coarser_grid_counts_voxels_of_the_fine_one() -> None:
    head = FieldHead("displacement", 1)
    with torch.no_grad():
        head.conv.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))  # type: ignore[union-attr]
    disp = head(torch.zeros(1, 1, 5, 6, 7), (9, 16, 25)).disp
    expected = torch.tensor([1.0 * 8 / 4, 2.0 * 15 / 5, 3.0 * 24 / 6])
    torch.testing.assert_close(disp[0, :, 4, 5, 6], expected)


def test_a_gradient_of_one_half_is_the_identity() -> None:
    assert (integrate_gradient(torch.full((2, 3, 5, 6, 7), 0.5)) == 0).all()
    assert (as_prediction(torch.zeros(1, 3, 5, 6, 7), "gradient").disp == 0).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_constant_gradient_stretches_along_its_own_axis(axis: int) -> None:
    """The published formula: position = 2 * (sum of gradients up to the voxel's own) - 1."""
    gradient = torch.full((1, 3, 5, 6, 7), 0.5)
    gradient[:, axis] = 0.6
    disp = integrate_gradient(gradient)
    size = disp.shape[2 + axis]
    position = 2 * 0.6 * torch.arange(1, size + 1) - 1
    along = disp[0, axis].movedim(axis, 0).flatten(1)
    torch.testing.assert_close(along, (position - torch.arange(size))[:, None].expand_as(along))
    others = [c for c in range(3) if c != axis]
    assert (disp[:, others] == 0).all()


def test_no_step_along_an_axis_goes_back_or_over_two_voxels(rng: torch.Generator) -> None:
    disp = as_prediction(3 * torch.randn(1, 3, 9, 8, 7, generator=rng), "gradient").disp
    for axis in range(3):
        step = 1 + disp[:, axis].diff(dim=1 + axis)
        assert step.min() > 0
        assert step.max() < 2


def test_a_gradient_keeps_its_values_on_another_grid() -> None:
    head = FieldHead("gradient", 1)
    with torch.no_grad():
        head.conv.bias.copy_(torch.tensor([0.3, 0.0, -0.3]))  # type: ignore[union-attr]
    prediction = head(torch.zeros(1, 1, 5, 6, 7), (9, 11, 13))
    assert prediction.gradient is not None
    assert prediction.gradient.shape == prediction.disp.shape == (1, 3, 9, 11, 13)
    torch.testing.assert_close(
        prediction.gradient.mean(dim=(2, 3, 4)), torch.sigmoid(torch.tensor([[0.3, 0.0, -0.3]]))
    )


def test_an_unknown_head_is_refused() -> None:
    with pytest.raises(ValueError, match="displacement, velocity, gradient, got 'affine'"):
        FieldHead("affine", 4)
