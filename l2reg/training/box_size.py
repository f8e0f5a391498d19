"""Boxes that training pairs are cropped to: how large they are for a network and its loss."""

from collections.abc import Iterator, Sequence

from torch import nn

from l2reg.problems import Problem
from l2reg.wording import quantity

_LEAST = 2  # voxels; a single one has no neighbour along its axis


def box_problems(box: object, model: nn.Module, loss: nn.Module) -> list[Problem]:
    """Return a problem if boxes are smaller than what a network or a loss term looks at.

    These name it in the attribute ``min_size``, in voxels: the network the voxels that one of its
    coarsest level stands for, a loss term the edge of what it compares. A smaller box would be
    padded, or hold too little to compare, so that a loss of 0 is learned from.

    Args:
        box: ``data.crop``, ``None`` for whole scans; what is no list is left to ``check_crop``.
        model: The network.
        loss: The loss.
    """
    sizes = [size for size in box if isinstance(size, int)] if isinstance(box, Sequence) else []
    needs = [(size, what) for size, what in _needs(model, loss) if size > min(sizes, default=size)]
    if not needs:
        return []
    least = max(size for size, _ in needs)
    enough = ",".join(str(max(size, least)) for size in sizes)
    return [
        Problem(
            where=f"data.crop={sizes}",
            what="is too small to learn from",
            expected=f"{quantity(least, 'voxel')} or more along each axis, as "
            + " and ".join(f"{what} {size}" for size, what in needs),
            found=f"{min(sizes)}",
            remedy=f"data.crop=[{enough}] or larger; an axis of fewer voxels stays whole",
        )
    ]


def _needs(model: nn.Module, loss: nn.Module) -> Iterator[tuple[int, str]]:
    """Return the smallest size for the network and for each loss term, and why."""
    yield _LEAST, "differences of neighbours take"
    name = type(model).__name__
    yield _min_size(model), f"one voxel of the coarsest level of {name} stands for"
    for term in loss.modules():
        yield _min_size(term), f"{type(term).__name__} compares cubes of"


def _min_size(part: nn.Module) -> int:
    size = getattr(part, "min_size", 1)
    return size if isinstance(size, int) else 1
