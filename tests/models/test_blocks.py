import torch

from l2reg.models.blocks import ConvBlock, crop, pad_to_multiple


def test_padding_does_not_reach_the_near_corner(
    rng: torch.Generator,
) -> None:
    padded = pad_to_multiple(torch.rand(1, 1, 9, 8, 30, generator=rng), 8)
    assert padded.shape[2:] == (16, 8, 32)
    assert torch.equal(padded[..., 9:, :, :30], padded[..., 8:9, :, :30].expand(-1, -1, 7, -1, -1))
    assert crop(padded, (9, 8, 30)).shape[2:] == (9, 8, 30)


def test_strides_halve_the_grid() -> None:
    assert ConvBlock(2, 4, stride=2)(torch.zeros(1, 2, 8, 10, 12)).shape == (1, 4, 4, 5, 6)
