import pytest
import torch
from torch import nn

from l2reg.geometry.compose import compose, integrate
from l2reg.models.heads import FieldHead


def test_a_velocity_head_integrates_so_that_its_flow_has_an_inverse(rng: torch.Generator) -> None:
    head = FieldHead("velocity", 4)
    nn.init.normal_(head.conv.weight, std=0.05)
    features = torch.nn.functional.interpolate(
        torch.randn(1, 4, 4, 4, 5, generator=rng), size=(16, 18, 20), mode="trilinear"
    )
    prediction = head(features, (16, 18, 20))
    assert prediction.velocity is not None
    back = integrate(-prediction.velocity, squarings=7)
    there = prediction.disp
    inner = (..., slice(4, -4), slice(4, -4), slice(4, -4))
    assert there[inner].abs().max() > 0.2
    assert compose(back, there)[inner].abs().max() < 0.1 * there[inner].abs().max()


def test_a_field_estimated_on_a_coarser_grid_counts_voxels_of_the_fine_one() -> None:
    head = FieldHead("displacement", 1)
    with torch.no_grad():
        head.conv.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))  # type: ignore[union-attr]
    disp = head(torch.zeros(1, 1, 5, 6, 7), (9, 16, 25)).disp
    expected = torch.tensor([1.0 * 8 / 4, 2.0 * 15 / 5, 3.0 * 24 / 6])
    torch.testing.assert_close(disp[0, :, 4, 5, 6], expected)


def test_an_unknown_head_is_refused() -> None:
    with pytest.raises(ValueError, match="displacement or velocity, got 'affine'"):
        FieldHead("affine", 4)
