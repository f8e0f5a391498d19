"""Training of descriptors: pairs of synthetic views, and how well their points are found again."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn
from tqdm import tqdm

from l2reg.batch import Batch
from l2reg.features.extractor import FeatureExtractor
from l2reg.features.retrieval import retrieval_rate
from l2reg.models.descriptors import DescriptorNetwork
from l2reg.phantom.views import SyntheticViews
from l2reg.problems import InputError, Problem
from l2reg.runtime import autocast
from l2reg.shapes import Maps
from l2reg.training.distributed import gather, share
from l2reg.training.prefetch import Batches
from l2reg.training.task_of_run import TrainingTask


@dataclass(frozen=True, kw_only=True)
class SyntheticData:
    """Data of a run that trains descriptors; no file is read.

    Attributes:
        views: The pairs to train on.
        n_val: Number of validation pairs, of patients of their own; every second one is a phantom.
        n_val_points: Largest number of points per validation pair, inside the body.
        val_seed: Seed of the validation pairs, the same for all runs that are compared.
        val_shift: Standard deviation of the translation between validation views, in voxels.
        radius: See ``features.retrieval.retrieval_rate``.
        max_error: See ``features.retrieval.retrieval_rate``.
        reference: Features whose retrieval is reported beside that of the descriptors.
    """

    views: SyntheticViews
    n_val: int
    n_val_points: int
    val_seed: int
    val_shift: float
    radius: int
    max_error: float
    reference: FeatureExtractor

    def __post_init__(self) -> None:
        if self.n_val < 2 or min(self.n_val_points, self.radius) < 1 or self.max_error <= 0:
            raise ValueError(
                "n_val must be 2 or more, n_val_points and radius 1 or more and max_error above 0, "
                f"got {self.n_val}, {self.n_val_points}, {self.radius}, {self.max_error}"
            )

    def validation_pairs(self, device: torch.device) -> list[Batch]:
        """Return the validation pairs, batches of one pair."""
        views = replace(
            self.views,
            patient_seed=self.views.patient_seed + 1,
            shift=self.val_shift,
            same_scan_share=0.0,
        )
        rngs = [np.random.default_rng((self.val_seed, number)) for number in range(self.n_val)]
        kinds = [np.array([number % 2 == 1]) for number in range(self.n_val)]
        return [views.make(kind, rng, device) for kind, rng in zip(kinds, rngs, strict=True)]


@dataclass(frozen=True)
class SyntheticTask(TrainingTask):
    """The task of a run that trains descriptors, of synthetic views.

    Attributes:
        data: The views.
        objective: The loss.
    """

    data: SyntheticData
    objective: nn.Module

    @property
    def inputs(self) -> Sequence[Path]:
        """No file is read."""
        return ()

    def describe(self) -> None:
        """Print what is trained on."""
        views = self.data.views
        tqdm.write(
            f"training on synthetic views of {views.size} voxels along each axis, "
            f"{views.phantom_share:.0%} of them of phantoms; no scan is read"
        )

    def image_uses(self) -> dict[str, str]:
        """Return no image: none is trained on."""
        return {}

    def validated_on(self) -> list[str]:
        """Return no image: none is validated with."""
        return []

    def problems(self) -> list[Problem]:
        """Return no problem: there are no files."""
        return []

    def batches(
        self, model: nn.Module, *, items: range, seed: int, device: torch.device
    ) -> Batches:
        """Return the batches, which are the same for every model."""
        _check_network(model)
        return self.data.views.batches(items=items, seed=seed, device=device)

    def validation(
        self, model: nn.Module, device: torch.device, precision: str
    ) -> "RetrievalValidation":
        """Return the validation of a model by retrieval."""
        return RetrievalValidation(_check_network(model), self.data, device, precision)


class RetrievalValidation:
    """Scores descriptors by the fraction of points that are found again in the other view.

    Args:
        model: The network.
        data: The validation pairs, and the settings of the retrieval.
        device: Device of the network.
        precision: Precision of the network, see ``runtime``.
    """

    def __init__(
        self, model: DescriptorNetwork, data: SyntheticData, device: torch.device, precision: str
    ) -> None:
        self.model = model
        self.data = data
        self.device = device
        self.precision = precision

    def score(self) -> tuple[dict[str, float], float]:
        """Return the retrieval of all pairs, of random shapes and of phantoms, and the reference's.

        The quality is the first of these.
        """
        indices = range(len(self._pairs))
        rates = gather([self._rate(self._pairs[n], self._describe(n)) for n in share(indices)])
        order = gather(list(share(indices)))
        by_pair = [rate for _, rate in sorted(zip(order, rates, strict=True))]
        scores = {
            "val/retrieval": float(np.mean(by_pair)),
            "val/retrieval_shapes": float(np.mean(by_pair[::2])),
            "val/retrieval_phantoms": float(np.mean(by_pair[1::2])),
            "val/retrieval_reference": float(np.mean(self._reference)),
            "val/retrieval_reference_shapes": float(np.mean(self._reference[::2])),
            "val/retrieval_reference_phantoms": float(np.mean(self._reference[1::2])),
        }
        return scores, scores["val/retrieval"]

    def draw(self) -> Figure:
        """Return a figure of the first pair: both views, and three channels as colours."""
        figure = Figure(figsize=(6, 6), layout="constrained")
        middle = self.data.views.size // 2
        views = (self._pairs[0]["fixed"], self._pairs[0]["moving"])
        rows = figure.subplots(2, 2, squeeze=False)
        for (left, right), view, maps in zip(rows, views, self._describe(0), strict=True):
            left.imshow(view[0, 0, :, :, middle].cpu().numpy(), cmap="gray")
            right.imshow((0.5 + 0.5 * maps[0, :3, :, :, middle]).movedim(0, -1).cpu().numpy())
            left.set_axis_off()
            right.set_axis_off()
        return figure

    @cached_property
    def _pairs(self) -> list[Batch]:
        return self.data.validation_pairs(self.device)

    @cached_property
    def _reference(self) -> list[float]:
        """The retrieval of the reference, pair by pair."""
        reference = self.data.reference
        return [self._rate(p, reference(p["fixed"], p["moving"])) for p in self._pairs]

    @torch.no_grad()
    def _describe(self, number: int) -> tuple[Maps, Maps]:
        """Return the descriptors of both views of a pair on the grid of the views."""
        pair = self._pairs[number]
        with autocast(self.device, self.precision):
            return self.model.describe(pair["fixed"]), self.model.describe(pair["moving"])

    def _rate(self, pair: Batch, maps: tuple[Maps, Maps]) -> float:
        inside = pair["point_labels"][0] > 0
        fixed, moving = (
            pair[key][:, inside][:, : self.data.n_val_points]
            for key in ("fixed_points", "moving_points")
        )
        radius, max_error = self.data.radius, self.data.max_error
        return float(retrieval_rate(maps, (fixed, moving), radius=radius, max_error=max_error))


def _check_network(model: nn.Module) -> DescriptorNetwork:
    """Return the network if it computes descriptors.

    Raises:
        InputError: If it does not.
    """
    if isinstance(model, DescriptorNetwork):
        return model
    raise InputError(
        Problem(
            where=f"model {type(model).__name__}",
            what="cannot be trained on synthetic views",
            expected="a network of descriptors",
            found=f"{type(model).__module__}.{type(model).__name__}",
            remedy="leave model= out together with experiment=descriptors, or name a task=",
        )
    )
