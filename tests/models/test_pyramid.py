from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from l2reg.geometry.warp import warp
from l2reg.models.blocks import halvable_shape
from l2reg.models.pyramid import Encoder, Pyramid

Batches = Callable[..., dict[str, torch.Tensor]]
Awake = Callable[[nn.Module], nn.Module]


def small_pyramid(**changes: Any) -> Pyramid:
    options = {"features": [4, 6], "radius": [1, 2], "estimator": [6, 4], "inherited": 5,
               "dense": False,
               "context": [[4, 2]], "affine": False, "head": "displacement", "grid": "half",
               **changes}  # fmt: skip
    torch.manual_seed(0)
    return Pyramid(**options)


@pytest.mark.parametrize("halvings", [1, 2, 3])
def test_a_halvable_grid_keeps_its_corners_when_halved(halvings: int) -> None:
    assert halvable_shape((96, 97, 104), 3) == (97, 97, 105)
    assert halvable_shape((2, 3, 9), 2) == (5, 5, 9)
    shape = halvable_shape((11, 20, 30), halvings)
    maps = Encoder([1] * halvings)(torch.rand(1, 1, *shape))
    for fine, coarse in pairwise(maps):
        sizes = zip(fine.shape[2:], coarse.shape[2:], strict=True)
        assert all((n - 1) / (m - 1) == 2 for n, m in sizes)


def test_features_are_normalised_before_they_are_correlated(rng: torch.Generator) -> None:
    """Gain and offset of a scan therefore change nothing."""
    image = torch.rand(1, 1, 17, 21, 25, generator=rng)
    for maps in Encoder([4, 6])(image):
        torch.testing.assert_close(maps.mean(dim=(2, 3, 4)), torch.zeros_like(maps[..., 0, 0, 0]),
                                   atol=1e-5, rtol=0)  # fmt: skip
        assert (maps.var(dim=(2, 3, 4), correction=0) - 1).abs().max() < 0.1
    raw, brighter = (Encoder([4])(scan)[0] for scan in (image, 3 * image + 5))
    torch.testing.assert_close(raw, brighter, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("radius", "coarser"), [([1, 2], 1), ([1, 1, 2], 2)])
def test_every_level_has_a_field_on_a_grid_with_the_working_grids_corners(
    radius: list[int], coarser: int, batch: Batches, awake: Awake
) -> None:
    """With one radius more than features the working grid has a field of its own."""
    model = awake(small_pyramid(radius=radius)).train()
    prediction = model(batch(13, 17, 21))
    assert [tuple(level.disp.shape[2:]) for level in prediction.levels] == [
        (7, 9, 11), (4, 5, 6)
    ][-coarser:]  # fmt: skip
    assert model.eval()(batch(13, 17, 21)).levels == ()


def test_a_level_adds_its_residual_by_composition(rng: torch.Generator) -> None:
    """A residual estimated on warped features is a field to the warped image."""
    level = small_pyramid(context=[]).levels[1].eval()
    residual = torch.tensor([1.0, -0.5, 2.0])
    with torch.no_grad():
        level.head.conv.bias.copy_(residual)
    fixed, moving = torch.randn(2, 1, 4, 9, 11, 13, generator=rng)
    before = 0.5 * torch.randn(1, 3, 9, 11, 13, generator=rng)
    inherited = [torch.randn(1, 5, 9, 11, 13, generator=rng)]
    after, _ = level(fixed, moving, before, inherited)
    everywhere = residual.view(1, 3, 1, 1, 1).expand_as(before)
    torch.testing.assert_close(after, everywhere + warp(before, everywhere))


def test_shifts_can_be_learned_and_hold_for_textures_and_shifts_never_seen() -> None:
    """Whole voxels in training, fractions of them in the test."""
    torch.manual_seed(0)
    shape, inner = (13, 15, 17), (..., *[slice(3, -3)] * 3)
    model = small_pyramid(estimator=[12, 8], context=[])
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

    def pairs(shifts: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        texture = nn.functional.avg_pool3d(torch.rand(len(shifts), 1, *shape), 5, 1, 2)
        true = shifts.view(-1, 3, 1, 1, 1).expand(-1, -1, *shape)
        return {"fixed": warp(texture, true), "moving": texture}, true

    for _ in range(120):
        batch, true = pairs(torch.randint(-3, 4, (4, 3)).float())
        loss = (model(batch).disp - true)[inner].square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    batch, true = pairs(torch.tensor([[2.5, -1.5, 2.0], [-2.5, 2.0, 0.5]]))
    with torch.no_grad():
        error = (model.eval()(batch).disp - true)[inner].square().mean().sqrt()
    assert error < 0.4 * true.square().mean().sqrt()


def test_a_radius_for_no_level_is_refused() -> None:
    for radius in ([1], [1, 1, 1, 1]):
        with pytest.raises(ValueError, match=r"(?s)one entry for each.*features.*radius"):
            small_pyramid(radius=radius)


@pytest.mark.parametrize("radius", [[1, 2], [1, 1, 2]])
def test_both_channels_of_a_scan_are_looked_at(
    batch: Batches, awake: Awake, radius: list[int]
) -> None:
    one, other = batch(16, 20, 24), batch(16, 20, 24)
    images = {s: torch.cat([one[s], other[s].flip(2)], dim=1) for s in ("fixed", "moving")}
    images = {side: image.requires_grad_() for side, image in images.items()}
    model = awake(small_pyramid(scan_channels=2, radius=radius))
    model({**one, **images}).disp.square().sum().backward()
    for image in images.values():
        assert image.grad is not None
        assert (image.grad.abs().amax(dim=(0, 2, 3, 4)) > 0).all()
