from collections.abc import Callable
from itertools import product

import pytest
import torch
import torch.nn.functional as F

from l2reg.geometry.warp import warp
from l2reg.models.vfa import VFA, VectorFieldAttention, mean_offset

Batches = Callable[..., dict[str, torch.Tensor]]

SHAPE = (3, 2, 4)


def test_the_mean_offset_is_that_of_attention_voxel_by_voxel(rng: torch.Generator) -> None:
    channels = 4
    queries, keys = (
        torch.randn(1, channels, *SHAPE, generator=rng, dtype=torch.float64) for _ in range(2)
    )
    found = mean_offset(queries, keys)
    offsets = list(product((-1, 0, 1), repeat=3))
    for i, j, k in product(*map(range, SHAPE)):
        scores = []
        for offset in offsets:
            at = [x + step for x, step in zip((i, j, k), offset, strict=True)]
            inside = all(0 <= x < n for x, n in zip(at, SHAPE, strict=True))
            key = keys[0, :, at[0], at[1], at[2]] if inside else torch.zeros(channels).double()
            scores.append(torch.dot(queries[0, :, i, j, k], key) / channels**0.5)
        weights = torch.stack(scores).exp()
        expected = (weights[:, None] * torch.tensor(offsets)).sum(dim=0) / weights.sum()
        torch.testing.assert_close(found[0, :, i, j, k], expected)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_level_finds_a_shift_by_a_voxel_and_keeps_one_that_is_known(
    axis: int, rng: torch.Generator
) -> None:
    shape = (9, 8, 10)
    fixed = 20 * F.normalize(torch.randn(1, 8, *shape, generator=rng))
    disp, known = torch.zeros(1, 3, *shape), torch.zeros(1, 3, 3, 2, 4)
    disp[:, axis] = 1.0
    known[:, axis] = (known.shape[2 + axis] - 1) / (shape[axis] - 1)  # in its larger voxels
    moving = warp(fixed, -disp)
    level = VectorFieldAttention(8, "displacement")
    torch.nn.init.dirac_(level.query.weight)
    inner = (..., slice(2, -2), slice(2, -2), slice(2, -2))
    for start in (torch.zeros_like(known), known):
        found = level(fixed, moving, start)[inner]
        torch.testing.assert_close(found, disp[inner], atol=0.05, rtol=0)


def test_an_offset_is_followed_by_the_field_that_is_known(
    monkeypatch: pytest.MonkeyPatch, rng: torch.Generator
) -> None:
    shape = (9, 8, 10)
    offset = torch.tensor([1.0, -1.0, 0.5]).view(1, 3, 1, 1, 1).expand(1, 3, *shape)
    monkeypatch.setattr("l2reg.models.vfa.mean_offset", lambda queries, keys: offset)
    matrix = 0.2 * torch.randn(3, 3, generator=rng)
    at = torch.stack(torch.meshgrid(*map(torch.arange, shape), indexing="ij")).float()
    known = torch.einsum("ab,bijk->aijk", matrix, at)[None]
    maps = torch.zeros(1, 4, *shape)
    found = VectorFieldAttention(4, "displacement")(maps, maps, known)
    expected = torch.einsum("ab,bijk->aijk", matrix, at + offset[0]) + offset[0]
    inner = (..., slice(2, -2), slice(2, -2), slice(2, -2))
    torch.testing.assert_close(found[inner], expected[None][inner])


def test_features_are_matched_in_float32_under_autocast(rng: torch.Generator) -> None:
    fixed, moving = torch.randn(2, 1, 8, 5, 4, 6, generator=rng)
    level = VectorFieldAttention(8, "displacement")
    torch.nn.init.dirac_(level.query.weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = level(fixed, moving, torch.zeros(1, 3, 2, 2, 2))
    assert torch.equal(found, level(fixed, moving, torch.zeros(1, 3, 2, 2, 2)))


class Given(torch.nn.Module):
    """Stands in for the extractor of features."""

    halvings = 1

    def __init__(self, maps: torch.Tensor) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        return [self.maps]


def test_a_shift_on_half_the_grid_is_twice_as_long_on_the_working_grid(
    batch: Batches, rng: torch.Generator
) -> None:
    fixed = 20 * F.normalize(torch.randn(1, 8, 9, 8, 10, generator=rng))
    disp = torch.zeros(1, 3, 9, 8, 10)
    disp[:, 1] = 1.0
    network = VFA([4, 8], [8], head="displacement", grid="half")
    network.extractor = Given(torch.cat([fixed, warp(fixed, -disp)]))
    torch.nn.init.dirac_(network.levels[0].query.weight)  # type: ignore[union-attr, arg-type]
    found = network(batch(17, 15, 19)).disp[0, :, 4:-4, 4:-4, 4:-4]
    assert (found - torch.tensor([0.0, 2.0, 0.0]).view(3, 1, 1, 1)).abs().max() < 0.1


@pytest.mark.parametrize("decoder", [[6], [6, 4], [6, 4, 4]])
def test_there_is_a_field_for_every_level_that_is_matched(
    decoder: list[int], batch: Batches
) -> None:
    network = VFA([4, 6, 6], decoder, head="displacement", grid="half").train()
    prediction = network(batch(9, 17, 13))
    assert prediction.disp.shape == (1, 3, 9, 17, 13)
    shapes = [(3, 5, 4), (5, 9, 7)][: len(decoder) - 1]
    assert [tuple(level.disp.shape[2:]) for level in reversed(prediction.levels)] == shapes


@pytest.mark.parametrize("decoder", [[], [8, 8, 8, 8]])
def test_a_decoder_that_cannot_be_is_refused(decoder: list[int]) -> None:
    with pytest.raises(ValueError, match="decoder must have at least one level"):
        VFA([4, 6, 8], decoder, head="displacement", grid="half")
