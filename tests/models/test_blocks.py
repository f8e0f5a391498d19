import torch

from l2reg.models.blocks import (
    ConvBlock,
    DoublingConv,
    HalvingConv,
    crop,
    crop_prediction,
    halve_shape,
    pad_to_halvable,
    pad_to_multiple,
)
from l2reg.models.prediction import Prediction


def test_padding_repeats_the_edge_at_the_end_of_each_axis(rng: torch.Generator) -> None:
    padded = pad_to_multiple(torch.rand(1, 1, 9, 8, 30, generator=rng), 8)
    assert padded.shape[2:] == (16, 8, 32)
    assert torch.equal(padded[..., 9:, :, :30], padded[..., 8:9, :, :30].expand(-1, -1, 7, -1, -1))
    assert crop(padded, (9, 8, 30)).shape[2:] == (9, 8, 30)


def test_padding_to_a_halvable_grid_keeps_the_voxels_in_their_places(rng: torch.Generator) -> None:
    image = torch.rand(2, 1, 9, 8, 30, generator=rng)
    padded = pad_to_halvable(image, 3)
    assert padded.shape[2:] == (9, 9, 33)
    assert torch.equal(crop(padded, (9, 8, 30)), image)
    assert torch.equal(padded[..., :8, 30:], image[..., 29:].expand(-1, -1, -1, -1, 3))


def test_halving_and_doubling_convolutions_take_a_ramp_to_every_second_voxel_and_back() -> None:
    """With weights that average, inside; at the border a window repeats the edge voxel."""
    halving, doubling = HalvingConv(1, 1), DoublingConv(1, 1)
    for convolution, weight in ((halving, 1 / 8), (doubling, 1.0)):
        torch.nn.init.constant_(convolution.weight, weight)
        torch.nn.init.zeros_(convolution.bias)
    ramp = torch.arange(17.0).view(1, 1, 17, 1, 1).expand(1, 1, 17, 9, 13)
    halved = halving(ramp)
    assert halved.shape == (1, 1, 9, 5, 7)
    assert torch.equal(halved[:, :, 1:-1], ramp[:, :, 2:-1:2, :5, :7])
    doubled = doubling(ramp[:, :, ::2, :5, :7])
    torch.testing.assert_close(doubled, ramp)


def test_strides_halve_the_grid() -> None:
    assert ConvBlock(2, 4, stride=2)(torch.zeros(1, 2, 8, 10, 12)).shape == (1, 4, 4, 5, 6)


def test_dilation_and_stride_1_keep_the_grid() -> None:
    assert ConvBlock(2, 4, dilation=3)(torch.zeros(1, 2, 8, 10, 12)).shape == (1, 4, 8, 10, 12)


def test_a_halved_grid_keeps_two_voxels_at_least() -> None:
    assert halve_shape((9, 16, 5), 1) == (5, 8, 3)
    assert halve_shape((9, 16, 5), 4) == (2, 2, 2)
    assert halve_shape((9, 16, 5), 0) == (9, 16, 5)


def test_a_prediction_is_cropped_with_its_velocity_and_gradient(rng: torch.Generator) -> None:
    disp, velocity, gradient = torch.rand(3, 1, 3, 8, 8, 16, generator=rng)
    level = Prediction(torch.zeros(1, 3, 4, 4, 8))
    whole = Prediction(disp, velocity, gradient, levels=(level,))
    cropped = crop_prediction(whole, (7, 8, 13))
    for part, full in (
        (cropped.disp, disp), (cropped.velocity, velocity), (cropped.gradient, gradient)
    ):  # fmt: skip
        assert part is not None
        assert torch.equal(part, full[..., :7, :8, :13])
    assert cropped.levels == (level,)
