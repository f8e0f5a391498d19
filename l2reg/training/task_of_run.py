"""A task as a training run sees it: its loss, its batches, its validation and what it reads."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from l2reg.data.dataset import Dataset
from l2reg.data.pairs import Pair
from l2reg.inference.method import Method
from l2reg.inference.predictor import Predictor
from l2reg.io.scan_source import scan_digest
from l2reg.models.prediction import grid_of
from l2reg.own_data.dataset import OwnDataset
from l2reg.problems import Problem
from l2reg.training.prefetch import Batches
from l2reg.training.validation import Score, Validation


class TrainingTask(ABC):
    """One task of a training run.

    Attributes:
        objective: The loss of the task.
    """

    objective: nn.Module

    @property
    @abstractmethod
    def inputs(self) -> Sequence[Path]:
        """Files and folders that the task reads."""

    @abstractmethod
    def describe(self) -> None:
        """Print what is trained on, and warnings about the files."""

    @abstractmethod
    def problems(self) -> list[Problem]:
        """Return the problems of all files of the task."""

    @abstractmethod
    def image_uses(self) -> dict[str, str]:
        """Return the use of every training image, by digest: ``image`` or ``supervised``."""

    @abstractmethod
    def validated_on(self) -> list[str]:
        """Return the digests of the fixed images that the run is validated with."""

    @abstractmethod
    def batches(
        self, model: nn.Module, *, items: range, seed: int, device: torch.device
    ) -> Batches:
        """Return the batches of a model, of the pairs ``items`` of every step.

        Raises:
            InputError: If the model is of another kind than the task trains.
        """

    @abstractmethod
    def validation(self, model: nn.Module, device: torch.device, precision: str) -> Score:
        """Return the validation of a model in training."""


@dataclass(frozen=True)
class PairTask(TrainingTask):
    """A task of pairs of scans in files, for networks that register.

    Attributes:
        data: The data set of the task.
        objective: The loss of the task.
        val: The validation pairs; empty without validation.
    """

    data: Dataset | OwnDataset
    objective: nn.Module
    val: list[Pair]

    @property
    def inputs(self) -> Sequence[Path]:
        """Files and folders that the task reads."""
        return self.data.inputs

    def image_uses(self) -> dict[str, str]:
        """Return the use of every training image, by digest: ``image`` or ``supervised``."""
        training = self.data.training_set
        without = set(training.evaluation_images)
        return {
            scan_digest(channel.image): "image" if scan.image in without else "supervised"
            for scan in training.all_scans()
            for channel in scan.each_channel
        }

    def validated_on(self) -> list[str]:
        """Return the digests of the fixed images of the validation pairs."""
        return [scan_digest(pair.fixed.image) for pair in self.val]

    def batches(
        self, model: nn.Module, *, items: range, seed: int, device: torch.device
    ) -> Batches:
        """Return the batches of a model on its working grid."""
        return self.data.batches(grid_of(model), items=items, seed=seed, device=device)

    def validation(self, model: nn.Module, device: torch.device, precision: str) -> Validation:
        """Return the validation of a model by the official scores of the validation pairs."""
        return Validation(self.predictor(model, device, precision), self.val, self.objective)

    def predictor(self, model: nn.Module, device: torch.device, precision: str) -> Predictor:
        """Return the predictor of a model for pairs of the task."""
        return Predictor(Method(model, None, device, precision), self.data.reader)
