"""What a run trains on and is validated with: one part for each of its tasks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from tqdm import tqdm

from l2reg.config.build import build
from l2reg.config.task_nodes import task_nodes
from l2reg.data.check import check_pairs, check_scans
from l2reg.data.dataset import Dataset
from l2reg.data.pairs import Pair
from l2reg.io.files import content_digest
from l2reg.problems import Problem, raise_if_any


@dataclass(frozen=True)
class TrainingTask:
    """One task of a run.

    Attributes:
        data: Its scans.
        objective: Its loss.
        val: Pairs to validate with; empty without validation.
    """

    data: Dataset
    objective: nn.Module
    val: list[Pair]

    def describe(self) -> None:
        """Print what there is to train on."""
        training, where = self.data.training_set, self.data.release.folder
        tqdm.write(
            f"training on {len(training.intra_patient)} pairs of one patient and "
            f"{len(training.scans)} single scans below {where}"
        )
        pseudo = self.data.pseudo_labels
        if taught := pseudo.count(training.all_scans()):
            tqdm.write(
                f"{taught} of the scans with labels of {pseudo.root}, weight {pseudo.weight}"
            )
        if training.evaluation_images:
            names = ", ".join(str(path.relative_to(where)) for path in training.evaluation_images)
            tqdm.write(f"without labels and points, because their images are scored: {names}")

    def seen(self) -> dict[str, str]:
        """Return the digest of every image trained on, and whether with or without supervision."""
        training = self.data.training_set
        without = set(training.evaluation_images)
        return {
            content_digest(scan.image): "image" if scan.image in without else "supervised"
            for scan in training.all_scans()
        }

    def problems(self) -> list[Problem]:
        """Return all that is wrong with its files."""
        training = self.data.training_set
        task, cache = self.data.release.task, self.data.volumes
        listed = [*training.intra_patient, *self.val]
        problems = check_pairs(listed, task, cache, prealign=self.data.prealign)
        problems += check_scans(training.scans, task, cache)
        pseudo = self.data.pseudo_labels
        if pseudo.root is not None and not pseudo.count(training.all_scans()):
            problems.append(_gives_no_labels(self.data))
        return problems


def open_training_tasks(config: Mapping[str, Any], *, validated: bool) -> dict[str, TrainingTask]:
    """Open and check the data of every task of a run.

    Args:
        config: Of the run.
        validated: Whether the validation pairs are needed.

    Raises:
        InputError: For everything that is wrong with options and files of all tasks.
    """
    nodes = task_nodes(config)
    raise_if_any(problem for node in nodes.values() for problem in _unused_terms(node, config))
    tasks = {name: _open(node, validated=validated) for name, node in nodes.items()}
    raise_if_any(problem for task in tasks.values() for problem in task.problems())
    return tasks


def _open(node: Mapping[str, Any], *, validated: bool) -> TrainingTask:
    data: Dataset = build(node["data"], task=build(node["task"]))
    return TrainingTask(data, build(node["loss"]), data.split_pairs("val") if validated else [])


def _gives_no_labels(data: Dataset) -> Problem:
    return Problem(
        where=f"data.pseudo_labels.root={data.pseudo_labels.root}",
        what="has labels for no training scan that lacks them",
        expected=f"label maps under the names that the scans have below {data.release.folder}",
        found="none",
        remedy=f"l2reg propagate-labels writes them; leave it out for task {data.task.name} "
        "if all its scans have labels",
    )


def _unused_terms(node: Mapping[str, Any], config: Mapping[str, Any]) -> list[Problem]:
    """Return what is wrong with a loss that would be 0 whatever the network does."""
    weight = node["loss"]["weights"].get("inverse_consistency", 0.0)
    if weight == 0 or config["trainer"]["symmetric"]:
        return []
    problem = Problem(
        where="loss.weights.inverse_consistency",
        what="needs both directions of a pair in one batch",
        expected="trainer.symmetric=true",
        found=f"weight {weight} and trainer.symmetric=false",
        remedy="add trainer.symmetric=true, or set the weight to 0",
    )
    return [problem]
