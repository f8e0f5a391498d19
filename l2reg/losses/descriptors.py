"""Contrast of descriptors: equal where the anatomy is equal, different elsewhere."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from l2reg.batch import Batch
from l2reg.geometry.warp import sample_at_points
from l2reg.models.descriptors import ViewDescriptors
from l2reg.shapes import Scalar

Descriptors = Float[Tensor, "b n m"]  # of points; m channels of unit length


class DescriptorContrast(nn.Module):
    """Objective of ``models.descriptors``: contrast of classes and of positions.

    The term ``classes`` is the supervised contrast of Khosla et al. 2020 between the points of both
    views of a pair, on all levels; learning from it on synthetic classes follows anatomix (Dey et
    al. 2024). The term ``positions`` is the contrast of van den Oord et al. 2018 (InfoNCE) between
    a point in one view and, in the other, the same point and points at a small distance from it,
    most of which lie in the same class: it keeps descriptors from being equal all over an organ.

    Args:
        class_weight: Weight of the term ``classes``, 0 or more.
        position_weight: Weight of the term ``positions``, 0 or more.
        class_temperature: Difference of two cosines that counts in ``classes``; above 0.
        position_temperature: Difference of two cosines that counts in ``positions``; above 0.
        level_weights: Weights of the levels in ``classes``, finest first.
        n_negatives: Number of other positions for each point.
        distances: Smallest and largest distance of these, in voxels.
    """

    def __init__(
        self,
        class_weight: float,
        position_weight: float,
        class_temperature: float,
        position_temperature: float,
        level_weights: Sequence[float],
        n_negatives: int,
        distances: tuple[float, float],
    ) -> None:
        super().__init__()
        if min(class_weight, position_weight, *level_weights) < 0:
            raise ValueError(
                "class_weight, position_weight and level_weights must be 0 or more, got "
                f"{class_weight}, {position_weight}, {list(level_weights)}"
            )
        if min(class_temperature, position_temperature) <= 0:
            raise ValueError(
                "class_temperature and position_temperature must be above 0, got "
                f"{class_temperature}, {position_temperature}"
            )
        if n_negatives < 1 or not 0 < distances[0] <= distances[1]:
            raise ValueError(
                "n_negatives must be 1 or more, and distances above 0 and increasing, got "
                f"{n_negatives}, {list(distances)}"
            )
        self.class_weight = class_weight
        self.position_weight = position_weight
        self.class_temperature = class_temperature
        self.position_temperature = position_temperature
        self.level_weights = list(level_weights)
        self.n_negatives = n_negatives
        self.distances = distances

    def forward(self, views: ViewDescriptors, batch: Batch) -> dict[str, Scalar]:
        """Return both weighted terms, the means over the pairs.

        Args:
            views: Descriptors of both views.
            batch: The views, with ``fixed_points``, ``moving_points`` and ``point_labels``.
        """
        fixed_points, moving_points = batch["fixed_points"], batch["moving_points"]
        classes = torch.zeros_like(fixed_points[0, 0, 0])
        for level, weight in enumerate(self.level_weights[: len(views.fixed)]):
            fixed = _sample(views.fixed[level], fixed_points, level)
            moving = _sample(views.moving[level], moving_points, level)
            labels = batch["point_labels"]
            joined, both = torch.cat([fixed, moving], dim=1), torch.cat([labels, labels], dim=1)
            classes = classes + weight * class_contrast(joined, both, self.class_temperature)
        others = _sample(views.moving[0], self._negatives(moving_points), 0)
        positions = position_contrast(
            _sample(views.fixed[0], fixed_points, 0),
            _sample(views.moving[0], moving_points, 0),
            others.view(*moving_points.shape[:2], self.n_negatives, -1),
            self.position_temperature,
        )
        return {
            "classes": self.class_weight * classes,
            "positions": self.position_weight * positions,
        }

    def _negatives(self, points: Float[Tensor, "b n 3"]) -> Float[Tensor, "b others 3"]:
        """Return positions around each point, in all directions alike.

        They come from the global random numbers, whose state is part of a checkpoint.
        """
        b, n, _ = points.shape
        steps = torch.randn(b, n, self.n_negatives, 3, device=points.device)
        low, high = self.distances
        length = low + (high - low) * torch.rand(b, n, self.n_negatives, 1, device=points.device)
        return (points[:, :, None] + length * F.normalize(steps, dim=3)).flatten(1, 2)


def class_contrast(
    descriptors: Descriptors, labels: Int[Tensor, "b n"], temperature: float
) -> Scalar:
    """Return the supervised contrast of points, of which those of one class should be alike.

    For every point it is the mean, over the other points of its class, of minus the logarithm of
    their share among all other points (Khosla et al. 2020, outside the logarithm). Every class
    counts alike; a point that is alone in its class does not count.

    Args:
        descriptors: Descriptors of the points of each pair.
        labels: Their classes.
        temperature: Difference of two cosines that counts.
    """
    itself = torch.eye(labels.shape[1], dtype=torch.bool, device=labels.device)
    logits = (descriptors @ descriptors.mT / temperature).masked_fill(itself, -math.inf)
    logarithms = logits - logits.logsumexp(dim=2, keepdim=True)
    same = labels[:, :, None] == labels[:, None]
    size = same.sum(dim=2)
    alike = same & ~itself
    mean = torch.where(alike, logarithms, 0).sum(dim=2) / (size - 1).clamp(min=1)
    weight = (size > 1) / size
    return -((mean * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1e-6)).mean()


def position_contrast(
    descriptors: Descriptors,
    positives: Descriptors,
    negatives: Float[Tensor, "b n others m"],
    temperature: float,
) -> Scalar:
    """Return the mean of minus the logarithm of the share of the positive among all candidates.

    Args:
        descriptors: Descriptors of points in one view.
        positives: Descriptors of the same points in the other view.
        negatives: Descriptors of other points there.
        temperature: Difference of two cosines that counts.
    """
    candidates = torch.cat([positives[:, :, None], negatives], dim=2)
    logits = (candidates @ descriptors[..., None])[..., 0] / temperature
    return -logits.log_softmax(dim=2)[..., 0].mean()


def _sample(maps: Tensor, points: Float[Tensor, "b n 3"], level: int) -> Descriptors:
    """Return the descriptors at points, given in voxels of the scan.

    Args:
        maps: Descriptors of a level.
        points: Positions.
        level: The level; 0 is the half grid.
    """
    return F.normalize(sample_at_points(maps, points / 2 ** (level + 1)), dim=2)
