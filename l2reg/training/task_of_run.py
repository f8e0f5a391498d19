"""A task as a training run sees it: its data, its loss and its validation pairs."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import nn

from l2reg.data.dataset import Dataset
from l2reg.data.pairs import Pair
from l2reg.inference.predictor import Predictor
from l2reg.io.files import content_digest
from l2reg.own_data.dataset import OwnDataset
from l2reg.problems import Problem
from l2reg.training.validation import Validation


@dataclass(frozen=True)
class TrainingTask(ABC):
    """One task of a training run.

    Attributes:
        data: The data set of the task.
        objective: The loss of the task.
        val: The validation pairs; empty without validation.
    """

    data: Dataset | OwnDataset
    objective: nn.Module
    val: list[Pair]

    @abstractmethod
    def describe(self) -> None:
        """Print what is trained on, and warnings about the files."""

    @abstractmethod
    def problems(self) -> list[Problem]:
        """Return the problems of all files of the task."""

    def validation(self, predictor: Predictor) -> Validation:
        """Return the validation of a model in training, by the validation pairs."""
        return Validation(predictor, self.val, self.objective)

    def image_uses(self) -> dict[str, str]:
        """Return the use of every training image, by digest: ``image`` or ``supervised``."""
        training = self.data.training_set
        without = set(training.evaluation_images)
        return {
            content_digest(scan.image): "image" if scan.image in without else "supervised"
            for scan in training.all_scans()
        }
