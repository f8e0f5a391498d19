from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from l2reg.geometry.compose import integrate
from l2reg.models.lapirn import LapIRN

Batches = Callable[..., dict[str, torch.Tensor]]
Awake = Callable[[nn.Module], nn.Module]


def small_lapirn(**changes: Any) -> LapIRN:
    options = {"width": 4, "blocks": 2, "hidden": 64, "max_displacement": 0.4,
               "smoothness": None, "max_smoothness": 10.0,
               "stages": [0.25, 0.5, 1.0], "freeze": 0.1, "head": "displacement",
               "grid": "half", **changes}  # fmt: skip
    torch.manual_seed(0)
    return LapIRN(**options)


@pytest.mark.parametrize(("levels", "parameters"), [(1, 306_404), (2, 615_076), (3, 923_748)])
def test_every_level_has_its_published_size(levels: int, parameters: int) -> None:
    model = small_lapirn(width=28, blocks=5)
    assert sum(p.numel() for p in model.levels[:levels].parameters()) == parameters


def test_a_level_is_added_at_its_stage_and_coarser_levels_are_frozen_for_a_while() -> None:
    model = small_lapirn()
    states = []
    for progress in (0.0, 0.24, 0.25, 0.34, 0.36, 0.5, 0.59, 0.61, 0.99):
        model.set_progress(progress)
        trained = [all(p.requires_grad for p in level.parameters()) for level in model.levels]
        states.append((model.in_use, trained[: model.in_use]))
    assert states == [
        (1, [True]), (1, [True]),
        (2, [False, True]), (2, [False, True]), (2, [True, True]),
        (3, [False, False, True]), (3, [False, False, True]), (3, [True] * 3), (3, [True] * 3),
    ]  # fmt: skip


def test_a_level_that_was_not_trained_yet_adds_nothing_at_test_time(
    batch: Batches, awake: Awake
) -> None:
    model = small_lapirn()
    awake(model.levels[0])
    pair = batch(16, 20, 24)
    model.set_progress(0.0)
    coarse = model.train()(pair).disp
    assert coarse.abs().max() > 0.01
    final = model.eval()(pair).disp
    assert (final - coarse).abs().max() < 0.2 * coarse.abs().max()  # interpolated in two steps


def test_no_level_moves_farther_than_its_largest_displacement(batch: Batches, awake: Awake) -> None:
    model = awake(small_lapirn(stages=[1.0])).eval()
    nn.init.normal_(model.levels[0].decode[-1].weight, std=1e4)
    disp = model(batch(17, 21, 25)).disp
    farthest = disp.abs().amax(dim=(0, 2, 3, 4))
    torch.testing.assert_close(
        farthest, 0.4 * torch.tensor([16.0, 20.0, 24.0]) / 2, rtol=1e-2, atol=0
    )


def test_velocities_add_up_over_the_levels_and_are_integrated_once(
    batch: Batches, awake: Awake
) -> None:
    model = awake(small_lapirn(head="velocity")).eval()
    prediction = model(batch(17, 25, 33))
    assert prediction.velocity is not None
    torch.testing.assert_close(prediction.disp, integrate(prediction.velocity, squarings=7))


def test_without_stages_all_levels_are_trained_from_the_first_step() -> None:
    model = small_lapirn(stages=[0.0, 0.0, 1.0], freeze=0.0)
    model.set_progress(0.0)
    assert model.in_use == 3
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("head", ["displacement", "velocity"])
def test_a_stage_of_the_published_pyramid_gives_its_field_enlarged_by_the_outer_faces(
    head: str, batch: Batches, awake: Awake
) -> None:
    model = awake(small_lapirn(published_pyramid=True, head=head)).train()
    model.set_progress(0.0)
    pair = batch(16, 24, 32)
    pooled = F.avg_pool3d(torch.cat([pair["moving"], pair["fixed"]], dim=1), 3, 2, 1,
                          count_include_pad=False)  # fmt: skip
    pooled = F.avg_pool3d(pooled, 3, 2, 1, count_include_pad=False)
    added, _ = model.levels[0](pooled, None, None)
    disp = 0.4 * F.softsign(added) * (torch.tensor([4, 6, 8]).view(3, 1, 1, 1) - 1) / 2
    if head == "velocity":
        disp = integrate(disp, squarings=7)
    voxels = torch.tensor([15 / 3, 23 / 5, 31 / 7]).view(3, 1, 1, 1)
    expected = F.interpolate(disp, scale_factor=4, mode="trilinear", align_corners=False) * voxels
    torch.testing.assert_close(model(pair).disp, expected)


def test_a_narrow_encoder_narrows_the_finest_levels_maps_from_the_blocks() -> None:
    model = small_lapirn(encoder_width=2)
    assert [tuple(level.enlarge.weight.shape[:2]) for level in model.levels] == [
        (4, 4), (4, 4), (4, 2)
    ]  # fmt: skip
    assert [level.decode[0].weight.shape[0] for level in model.levels] == [3, 3, 2]


def test_smoothness_is_drawn_in_training_and_set_at_test_time(batch: Batches, awake: Awake) -> None:
    model = awake(small_lapirn(smoothness=2.0))
    pair = batch(16, 20, 24, pairs=3)
    drawn = torch.cat([model.train()(pair).smoothness for _ in range(20)])
    assert 0 <= drawn.min() < 2
    assert 8 < drawn.max() <= 10
    model.eval()
    two = model(pair)
    assert two.smoothness.tolist() == [2.0, 2.0, 2.0]
    model.smoothness = 8.0
    eight = model(pair)
    assert eight.smoothness.tolist() == [8.0, 8.0, 8.0]
    assert not torch.allclose(two.disp, eight.disp)
    assert small_lapirn().eval()(pair).smoothness is None


def test_options_that_do_not_fit_are_refused() -> None:
    for stages in ([], [0.5], [0.5, 0.25, 1.0], [-0.5, 1.0], [1.0, 1.0]):
        with pytest.raises(ValueError, match=r"not decrease, and the last alone be 1\.0"):
            small_lapirn(stages=stages)
    with pytest.raises(ValueError, match="null or 0 to 10, got 11"):
        small_lapirn(smoothness=11.0)
