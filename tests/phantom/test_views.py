"""Synthetic views show one anatomy in two appearances, displaced by a known field."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from l2reg.batch import Batch
from l2reg.phantom import views as module
from l2reg.phantom.views import SyntheticViews

CPU = torch.device("cpu")
VIEWS = SyntheticViews(
    size=21, n_points=60, phantom_share=0.5, same_scan_share=0.0, n_patients=3, patient_seed=0,
    shift=1.0, elastic=1.0, affine=0.05,
)  # fmt: skip
pytestmark = pytest.mark.usefixtures("small_tissues")


class ClassesAsImage:
    """Stands in for an appearance: the image is the class map itself."""

    def __init__(self, generator: torch.Generator) -> None:
        del generator

    def __call__(self, classes: torch.Tensor, texture: torch.Tensor) -> torch.Tensor:
        del texture
        return classes.float()

    def remap(self, image: torch.Tensor) -> torch.Tensor:
        return image


def make(views: SyntheticViews, *kinds: bool, seed: int = 0) -> Batch:
    return views.make(np.array(kinds), np.random.default_rng(seed), CPU)


def test_a_point_shows_the_class_of_its_label_in_both_views(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "Appearance", ClassesAsImage)
    batch = make(VIEWS, False, True)
    for view in ("fixed", "moving"):
        at = batch[f"{view}_points"].round().long()  # type: ignore[literal-required]
        image = batch[view][:, 0]  # type: ignore[literal-required]
        for pair in range(2):
            found = image[pair][tuple(at[pair].T)]
            assert torch.equal(found.long(), batch["point_labels"][pair])
    assert all(len(labels.unique()) > 1 for labels in batch["point_labels"])


def test_the_fixed_view_of_the_same_scan_is_the_moving_one_remapped() -> None:
    """Its intensities rise, or fall, with those of the moving scan, whatever the classes."""
    still = replace(VIEWS, same_scan_share=1.0, shift=0.0, elastic=0.0, affine=0.0)
    batch = make(still, *12 * [False])
    pairs = zip(batch["fixed"].flatten(1), batch["moving"].flatten(1), strict=True)
    correlations = [spearmanr(*pair).statistic for pair in pairs]
    assert np.median(np.abs(correlations)) > 0.9
    assert min(correlations) < -0.5 < 0.5 < max(correlations)


def test_points_move_inside_both_views_and_not_all_alike() -> None:
    batch = make(VIEWS, False, True)
    fixed, moving = batch["fixed_points"], batch["moving_points"]
    assert torch.equal(fixed, fixed.round())
    assert float(fixed.min()) >= 0
    assert float(fixed.max()) <= 20
    assert float(moving.min()) >= 2
    assert float(moving.max()) <= 18
    motion = (moving - fixed).norm(dim=2)
    assert float(motion.std()) > 0.1
    still = make(replace(VIEWS, shift=0.0, elastic=0.0, affine=0.0), False, True)
    torch.testing.assert_close(still["fixed_points"], still["moving_points"], atol=1e-4, rtol=0)


def test_small_classes_have_nearly_as_many_points_as_large_ones() -> None:
    classes = torch.zeros(1, 1, 21, 21, 21, dtype=torch.long)
    classes[:, :, 8:14, 8:14, 8:14] = 1  # 216 of 9261 voxels, 216 of 4913 inside the margin
    still = torch.zeros(1, 3, 21, 21, 21)
    generator = torch.Generator().manual_seed(0)
    points = module._draw_points(classes, still, 4000, generator)
    share = float(module._values_at(classes, points).float().mean())
    rarity = {0: 4697 * 9045**-0.75, 1: 216 * 216**-0.75}
    assert share == pytest.approx(rarity[1] / sum(rarity.values()), abs=0.03)


def test_views_differ_in_contrast_and_have_intensities_from_0_to_1() -> None:
    still = replace(VIEWS, shift=0.0, elastic=0.0, affine=0.0)
    batch = make(still, False, True)
    for view in (batch["fixed"], batch["moving"]):
        assert view.shape == (2, 1, 21, 21, 21)
        assert [float(v) for v in view.amin(dim=(1, 2, 3, 4))] == [0, 0]
        torch.testing.assert_close(view.amax(dim=(1, 2, 3, 4)), torch.ones(2))
    for first, second in zip(batch["fixed"], batch["moving"], strict=True):
        correlation = torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1]
        assert abs(float(correlation)) < 0.95


def test_a_step_always_gives_the_same_batch_and_no_two_steps_or_ranks_do() -> None:
    first, other_rank = (
        VIEWS.batches(items=items, seed=3, device=CPU) for items in (range(2), range(2, 4))
    )
    batch, again = first[5], first[5]
    for name, tensor in batch.items():
        assert torch.equal(tensor, again[name])  # type: ignore[literal-required,arg-type]
    for other in (first[6], other_rank[5]):
        assert not torch.equal(batch["fixed"], other["fixed"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"size": 15}, "size must be 16"), ({"phantom_share": 1.5}, "must be in"),
     ({"shift": -1.0}, "must be 0 or more, got -1.0")],
)  # fmt: skip
def test_impossible_views_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(VIEWS, **changes)
