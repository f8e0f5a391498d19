from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from l2reg.batch import Batch, both_directions, to_device
from l2reg.data.batches import Batches
from l2reg.data.dataset import Dataset
from l2reg.data.task import Task

CPU = torch.device("cpu")


@pytest.fixture
def batches(
    lung_2021: Path, tiny_task: Callable[..., Task], open_data: Callable[..., Dataset]
) -> Callable[..., Batches]:
    def made(
        items: range = range(2), seed: int = 0, n_points: int = 1024, **changes: Any
    ) -> Batches:
        sampling = {"val_images": True, "n_points": n_points, "both_directions": True}
        data = open_data(tiny_task("lung"), lung_2021, sampling=sampling, **changes)
        return data.batches("half", items=items, seed=seed, device=CPU)

    return made


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_a_step_gives_the_same_batch_however_often_and_in_whatever_order(
    batches: Callable[..., Batches],
) -> None:
    first, second = batches(), batches()
    forwards = [first[step] for step in range(4)]
    backwards = [second[step] for step in (3, 2, 1, 0)][::-1]
    assert all(same(a, b) for a, b in zip(forwards, backwards, strict=True))
    assert not same(forwards[0], forwards[1])
    assert not same(forwards[0], batches(seed=1)[0])


def test_pairs_go_to_the_device_by_way_of_pinned_memory(
    batches: Callable[..., Batches], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def noted(batch: Batch, device: torch.device, *, pinned: bool = False) -> Batch:
        asked.append((device, pinned))
        return to_device(batch, device, pinned=pinned)

    made = batches()
    alone = made[0]
    monkeypatch.setattr("l2reg.data.batches.to_device", noted)
    assert same(made[0], alone)
    assert asked == 2 * [(CPU, True)]


def test_one_pair_is_augmented_otherwise_in_every_item_step_and_run(
    batches: Callable[..., Batches],
) -> None:
    images = []
    for seed in (0, 1):
        made = batches(range(3), seed=seed)
        pair = made.draw(0, 0)
        made.draw = lambda step, item, pair=pair: pair
        images += [image for step in (0, 1) for image in made[step]["fixed"]]
    made.augment = None
    assert torch.equal(*made[0]["fixed"][:2])
    for n, image in enumerate(images):
        assert not any(torch.equal(image, other) for other in images[:n])


def test_items_do_not_depend_on_those_beside_them(batches: Callable[..., Batches]) -> None:
    """So ranks with a part of the items each have together what one process has."""
    first, last, every = (batches(items)[5] for items in (range(1), range(1, 3), range(3)))
    assert torch.equal(every["fixed"], torch.cat([first["fixed"], last["fixed"]]))
    assert not torch.equal(every["fixed"][0], every["fixed"][1])


def test_a_crop_is_cut_out_of_the_augmented_pair_at_a_place_of_its_own(
    batches: Callable[..., Batches],
) -> None:
    whole, cropped = batches()[3], batches(crop=[3, 2, 4])
    batch = cropped[3]
    assert same(batch, batches(crop=[3, 2, 4])[3])
    places = []
    for item, part in enumerate(batch["moving"][:, 0]):
        windows = whole["moving"][item, 0].unfold(0, 3, 1).unfold(1, 2, 1).unfold(2, 4, 1)
        places += [(windows == part).all(dim=(3, 4, 5)).nonzero().tolist()]
    assert all(places)
    assert places[0] != places[1]


def test_pairs_with_and_without_points_share_a_batch(batches: Callable[..., Batches]) -> None:
    for step in range(8):
        batch = batches(range(4))[step]
        counts = batch["point_weights"].sum(dim=1).tolist()
        assert batch["fixed_points"].shape == (4, 20, 3)
        assert set(counts) <= {0.0, 20.0}
        if len(set(counts)) == 2:
            return
    pytest.fail("no batch mixed pairs with and without points")


def test_at_most_so_many_points_are_drawn_and_they_correspond(
    batches: Callable[..., Batches],
) -> None:
    made = batches(range(1), n_points=5)
    made.augment = None
    for step in range(20):
        pair = made.draw(step, 0)
        batch = made[step]
        if pair.keypoints is not None:
            every = made.read(pair)
            rows = torch.cat([every["fixed_points"], every["moving_points"]], dim=2)[0]
            drawn = torch.cat([batch["fixed_points"], batch["moving_points"]], dim=2)[0]
            assert len(drawn) == 5
            assert all((row == rows).all(dim=1).any() for row in drawn)


def test_both_directions_are_the_pairs_and_then_the_same_pairs_swapped(
    batches: Callable[..., Batches],
) -> None:
    batch = batches(range(3))[1]
    both = both_directions(batch)
    assert both["opposite"].tolist() == [3, 4, 5, 0, 1, 2]
    for kind in ("", "_mask", "_labels", "_points"):
        fixed, moving = f"fixed{kind}", f"moving{kind}"
        assert torch.equal(both[fixed], torch.cat([batch[fixed], batch[moving]]))
        assert torch.equal(both[moving], torch.cat([batch[moving], batch[fixed]]))
    for name in ("label_weight", "point_weights", "spacing_mm"):
        assert torch.equal(both[name], torch.cat([batch[name], batch[name]]))
    assert set(both) == set(batch) - {"prealign"} | {"opposite"}
