from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from l2reg.batch import collate, first_channel, resize_batch, to_device
from l2reg.geometry.resize import resize_field
from l2reg.geometry.warp import voxel_coords
from l2reg.losses.diffusion import diffusion_energy
from l2reg.losses.keypoints import point_distance

FINE, COARSE = (9, 13, 17), (5, 7, 9)


def batch(rng: torch.Generator) -> dict[str, torch.Tensor]:
    position = voxel_coords(torch.zeros(1, 1, *FINE))[:, :1]
    points = torch.rand(1, 6, 3, generator=rng) * 8
    return {
        "fixed": position, "moving": 2 * position,
        "fixed_mask": (position < 4).float(), "moving_mask": torch.ones(1, 1, *FINE),
        "fixed_labels": position.to(torch.int16), "moving_labels": position.to(torch.int16),
        "fixed_points": points, "moving_points": points + 1, "point_weights": torch.ones(1, 6),
        "spacing_mm": torch.tensor([[1.0, 1.5, 2.0]]), "label_weight": torch.ones(1),
    }  # fmt: skip


def test_every_second_voxel_is_kept_where_the_grid_is_halved(rng: torch.Generator) -> None:
    fine = batch(rng)
    coarse = resize_batch(fine, COARSE, masks="nearest")
    inner = slice(1, -1)  # a ramp survives smoothing but at its ends
    torch.testing.assert_close(coarse["fixed"][:, :, inner], fine["fixed"][:, :, 2:-2:2, ::2, ::2])
    for name in ("fixed_mask", "moving_mask", "fixed_labels", "moving_labels"):
        torch.testing.assert_close(coarse[name], fine[name][:, :, ::2, ::2, ::2])
    assert coarse["label_weight"] is fine["label_weight"]


def test_millimetres_stay_millimetres(rng: torch.Generator) -> None:
    """The same deformation costs the same on either grid."""
    fine = batch(rng)
    disp = 0.1 * voxel_coords(torch.zeros(1, 1, *FINE))
    coarse, coarse_disp = resize_batch(fine, COARSE, masks="nearest"), resize_field(disp, COARSE)
    torch.testing.assert_close(
        diffusion_energy(coarse_disp, coarse["spacing_mm"]),
        diffusion_energy(disp, fine["spacing_mm"]),
    )
    names = ("fixed_points", "moving_points", "spacing_mm", "point_weights")
    torch.testing.assert_close(
        point_distance(coarse_disp, *(coarse[name] for name in names)),
        point_distance(disp, *(fine[name] for name in names)),
    )


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_collating_pads_points_with_weight_0() -> None:
    def sample(n: int) -> dict[str, torch.Tensor]:
        points = torch.ones(1, n, 3)
        return {"fixed_points": points, "moving_points": points, "point_weights": torch.ones(1, n)}

    joined = collate([sample(2), sample(0), sample(3)])
    assert joined["point_weights"].tolist() == [[1, 1, 0], [0, 0, 0], [1, 1, 1]]


def test_moving_to_a_device_moves_every_tensor() -> None:
    moved = to_device({"a": torch.ones(2)}, torch.device("meta"))
    assert moved["a"].device.type == "meta"


class Copies(TorchFunctionMode):
    """Stands in for a GPU: notes of every copy to one whether it came from pinned memory."""

    def __init__(self) -> None:
        super().__init__()
        self.pinned: set[int] = set()
        self.to_gpu: list[tuple[bool, bool]] = []  # from pinned memory, without waiting

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.pin_memory:
            copy = args[0].clone()
            self.pinned.add(copy.data_ptr())
            return copy
        if func is torch.Tensor.to and args[1] == torch.device("cuda"):
            from_pinned = args[0].data_ptr() in self.pinned
            self.to_gpu.append((from_pinned, kwargs.get("non_blocking", False)))
            return args[0]
        return func(*args, **kwargs)


def test_copies_to_a_gpu_are_pinned_where_that_is_asked_for_and_others_never() -> None:
    """A copy that does not wait reads garbage unless its source is pinned."""
    batch = {"a": torch.ones(2, 3), "b": torch.tensor([5], dtype=torch.int16)}
    with Copies() as copies:
        moved = to_device(batch, torch.device("cuda"), pinned=True)
    assert copies.to_gpu == [(True, True), (True, True)]
    assert same(moved, batch)
    with Copies() as copies:
        to_device(batch, torch.device("cuda"))
    assert copies.to_gpu == [(False, False), (False, False)]
    with Copies() as copies:
        kept = to_device(batch, torch.device("cpu"), pinned=True)
        on_meta = to_device(batch, torch.device("meta"), pinned=True)
        to_device(on_meta, torch.device("cuda"), pinned=True)  # as from another device
    assert all(kept[name] is batch[name] for name in batch)
    assert copies.pinned == set()


def test_no_value_from_outside_the_overlap_reaches_it_on_a_coarser_grid() -> None:
    images = torch.zeros(1, 1, 33, 20, 24)
    overlap = torch.zeros_like(images)
    overlap[:, :, 10:] = 1
    images[:, :, :10] = 1  # outside
    batch = {"fixed": images, "moving": images, "overlap": overlap}
    for shape in ((17, 10, 12), (5, 8, 8), (33, 20, 24)):
        coarse = resize_batch(batch, shape, masks="linear")
        assert set(coarse["overlap"].unique().tolist()) == {0.0, 1.0}
        assert (coarse["fixed"] * coarse["overlap"]).max() < 2e-3
        assert coarse["overlap"][:, :, -1].all()


def test_of_several_channels_the_first_one_alone_can_be_kept(rng: torch.Generator) -> None:
    one = batch(rng)
    two = {**one, **{s: torch.cat([one[s], one[s] + 1], dim=1) for s in ("fixed", "moving")}}
    kept = first_channel(two)
    assert kept.keys() == one.keys()
    assert all(torch.equal(kept[name], one[name]) for name in one)
