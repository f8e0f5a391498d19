"""Batch: the names and shapes of the tensors of a pair, for models, losses and optimisation."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, TypedDict, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from l2reg.geometry.constants import constant
from l2reg.geometry.resize import (
    resample,
    resize_image,
    resize_labels,
    resize_points,
    voxel_ratio,
)
from l2reg.shapes import Affine, Image, LabelMap, Mask, OneHot, PerPair, Points, Shape3

Side = Literal["fixed", "moving"]
SIDES: tuple[Side, Side] = ("fixed", "moving")

_WHOLE = 0.999  # smoothed mask above which no image value comes from outside


class Batch(TypedDict, total=False):
    """``b`` pairs on one working grid; a reader returns a batch of one pair.

    The moving scan and its mask, labels and points are those after the prealignment.
    """

    fixed: Image  # intensities in [0, 1]
    moving: Image
    fixed_mask: Mask  # 1 inside, 0 outside; the field of view without a mask file
    moving_mask: Mask
    overlap: Mask  # 1 where both scans have data; if missing, they have data everywhere
    fixed_labels: LabelMap | OneHot  # integers; in a refinement, one channel per common label
    moving_labels: LabelMap | OneHot
    label_weight: PerPair  # weight of the labels in a loss; 0 if either scan has none
    fixed_points: Points  # keypoints in voxels; their number may be 0
    moving_points: Points
    point_weights: Float[Tensor, "b n"]  # 1 for a keypoint, 0 for a row of padding
    point_labels: Int[Tensor, "b n"]  # class of the anatomy at a point, in synthetic views
    cross_modality: PerPair  # 1 if one scan is in Hounsfield units and the other one is not, or 0
    spacing_mm: Float[Tensor, "b 3"]  # size of a voxel of the working grid
    prealign: Affine  # map from fixed to moving scan, in voxels of the working grid
    opposite: Int[Tensor, " b"]  # index of the same pair with fixed and moving scan swapped
    task: Int[Tensor, " b"]  # index of the pair's task, in a run of several tasks


class SideKeys(NamedTuple):
    """Keys of the tensors that belong to one scan of a pair."""

    image: str
    mask: str
    labels: str
    points: str


def side_keys(side: Side) -> SideKeys:
    """Return the keys of the tensors of the fixed or the moving scan."""
    return SideKeys(side, f"{side}_mask", f"{side}_labels", f"{side}_points")


def swap_pair(batch: Batch) -> Batch:
    """Return the same pairs with fixed and moving scan swapped.

    The prealignment is left out, as it belongs to one direction.
    """
    tensors = _tensors(batch)
    other = dict(zip(side_keys("fixed") + side_keys("moving"),
                     side_keys("moving") + side_keys("fixed"), strict=True))  # fmt: skip
    swapped = {other.get(name, name): tensor for name, tensor in tensors.items()}
    swapped.pop("prealign", None)
    return cast(Batch, swapped)


def both_directions(batch: Batch) -> Batch:
    """Return the pairs of ``batch``, followed by the same pairs with fixed and moving scan swapped.

    The new entry ``opposite``, ``(2 b,)``, is the index of each pair's swapped copy. The
    prealignment is left out, as it belongs to one direction.
    """
    forward, backward = _tensors(batch), _tensors(swap_pair(batch))
    joined = {name: torch.cat([forward[name], tensor]) for name, tensor in backward.items()}
    n_pairs = len(batch["fixed"])
    indices = torch.arange(2 * n_pairs, device=batch["fixed"].device)
    return cast(Batch, {**joined, "opposite": indices.roll(n_pairs)})


def split_pairs(batch: Batch, n: int) -> list[Batch]:
    """Return ``n`` batches with an equal share of the pairs each, in their order."""
    parts = {name: tensor.chunk(n) for name, tensor in _tensors(batch).items()}
    return [cast(Batch, {name: tensors[i] for name, tensors in parts.items()}) for i in range(n)]


def resize_batch(batch: Batch, shape: Shape3, masks: Literal["nearest", "linear"]) -> Batch:
    """Return a batch on a grid of ``shape`` with the same corners.

    Images and one-hot labels are smoothed and sampled, label maps take the nearest voxel, points
    and the voxel size are converted to the new voxels. The overlap keeps voxels whose smoothed
    intensity comes from the overlap alone. Other entries stay as they are.

    Args:
        batch: Pairs on one grid.
        shape: Shape of the new grid.
        masks: Interpolation of the masks: nearest neighbour or linear.
    """
    old = batch["fixed"].shape[2:]

    def resize(name: str, value: Tensor) -> Tensor:
        if name in ("fixed_mask", "moving_mask"):
            nearest = masks == "nearest"
            return resize_labels(value.int(), shape).float() if nearest else resample(value, shape)
        if name == "overlap":
            return (resize_image(value, shape) > _WHOLE).to(value.dtype)
        if name in ("fixed_points", "moving_points"):
            return resize_points(value, old, shape)
        if name == "spacing_mm":
            return value * constant(value, voxel_ratio(shape, old))
        if name in ("fixed", "moving", "fixed_labels", "moving_labels"):
            return (resize_image if value.is_floating_point() else resize_labels)(value, shape)
        return value

    return cast(Batch, {name: resize(name, value) for name, value in _tensors(batch).items()})


def collate(samples: Sequence[Batch]) -> Batch:
    """Concatenate samples along the pair axis; points are padded with rows of weight 0."""
    n_rows = max(sample["fixed_points"].shape[1] for sample in samples)
    tensors = [_tensors(sample) for sample in samples]
    return cast(
        Batch,
        {
            name: torch.cat([_pad_rows(name, t[name], n_rows) for t in tensors])
            for name in tensors[0]
        },
    )


def first_channel(batch: Batch) -> Batch:
    """Return a batch whose images have their first channel alone."""
    return {**batch, "fixed": batch["fixed"][:, :1], "moving": batch["moving"][:, :1]}


def select_keys(batch: Batch, names: Iterable[str]) -> Batch:
    """Return the entries of ``batch`` that ``names`` lists; missing ones are skipped."""
    tensors = _tensors(batch)
    return cast(Batch, {name: tensors[name] for name in names if name in tensors})


def to_device(batch: Batch, device: torch.device, *, pinned: bool = False) -> Batch:
    """Return ``batch`` on ``device``.

    Args:
        batch: Pairs on any device.
        device: Device of the result.
        pinned: Whether a CPU's tensors go to a GPU by way of pinned memory: the copy is queued on
            the current stream, and the host does not wait for it. PyTorch keeps that memory for the
            next batch, so that one batch alone gains nothing. Other devices ignore it.
    """

    def move(tensor: Tensor) -> Tensor:
        if pinned and device.type == "cuda" and tensor.device.type == "cpu":
            return tensor.pin_memory().to(device, non_blocking=True)
        return tensor.to(device)

    return cast(Batch, {name: move(tensor) for name, tensor in _tensors(batch).items()})


def _pad_rows(name: str, tensor: Tensor, n_rows: int) -> Tensor:
    """Return points and their weights with ``n_rows`` rows; other tensors stay as they are."""
    if name in ("fixed_points", "moving_points"):
        return F.pad(tensor, (0, 0, 0, n_rows - tensor.shape[1]))
    if name == "point_weights":
        return F.pad(tensor, (0, n_rows - tensor.shape[1]))
    return tensor


def _tensors(batch: Batch) -> Mapping[str, Tensor]:
    """Return the batch as a mapping from names to tensors, which it is at run time."""
    return cast(Mapping[str, Tensor], batch)
