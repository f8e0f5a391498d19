"""Tasks of a training run: those of the challenge's form are checked and described here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from l2reg.config.build import build
from l2reg.config.task_nodes import SCAN_CHANNELS, scan_channels, task_nodes
from l2reg.data.check import check_pairs, check_scans, compare_headers_of
from l2reg.data.dataset import Dataset
from l2reg.own_data.channels import channel_problems
from l2reg.own_data.dataset import OwnDataset
from l2reg.problems import Problem, raise_if_any
from l2reg.training.own_task import OwnTask
from l2reg.training.synthetic_task import SyntheticTask
from l2reg.training.task_of_run import PairTask, TrainingTask
from l2reg.wording import quantity

_BOTH_DIRECTIONS = ("inverse_consistency", "gradient_inverse_consistency")  # terms


@dataclass(frozen=True)
class ReleaseTask(PairTask):
    """A task of the challenge's form."""

    data: Dataset

    def describe(self) -> None:
        """Print the numbers of pairs and scans to train on, and warnings about their headers."""
        training, where = self.data.training_set, self.data.release.folder
        tqdm.write(
            f"training on {quantity(len(training.intra_patient), 'intra-patient pair')} and "
            f"{quantity(len(training.scans), 'single scan')} below {where}"
        )
        pseudo = self.data.pseudo_labels
        if n_labelled := pseudo.count(training.all_scans()):
            tqdm.write(
                f"scans with pseudo-labels from {pseudo.root}, weight {pseudo.weight}: {n_labelled}"
            )
        if training.evaluation_images:
            names = ", ".join(str(path.relative_to(where)) for path in training.evaluation_images)
            tqdm.write(f"used without labels and points, because these images are scored: {names}")
        for warning in compare_headers_of([*training.intra_patient, *self.val], training.scans):
            tqdm.write(f"warning: {warning}")

    def problems(self) -> list[Problem]:
        """Return the problems of all files of the task."""
        training = self.data.training_set
        task, cache = self.data.release.task, self.data.volume_cache
        pairs = [*training.intra_patient, *self.val]
        problems = check_pairs(pairs, task, cache, prealign=self.data.prealign)
        problems += check_scans(training.scans, task, cache)
        pseudo = self.data.pseudo_labels
        if pseudo.root is not None and not pseudo.count(training.all_scans()):
            problems.append(_no_pseudo_labels(self.data))
        return problems


def open_training_tasks(
    config: Mapping[str, Any], *, with_validation: bool
) -> dict[str, TrainingTask]:
    """Open and check the data of every task of a run.

    Args:
        config: The config of the run.
        with_validation: Whether the validation pairs are opened.

    Raises:
        InputError: If options or files of any task are incorrect; it lists the faults of all tasks.
    """
    nodes = task_nodes(config)
    raise_if_any(problem for node in nodes.values() for problem in _unused_terms(node, config))
    tasks = {
        name: _open(node, config["trust"], with_validation=with_validation)
        for name, node in nodes.items()
    }
    raise_if_any(
        problem
        for task in tasks.values()
        for problem in (*_channel_problems(task, config["model"]), *task.problems())
    )
    return tasks


def _open(node: Mapping[str, Any], trust: Sequence[str], *, with_validation: bool) -> TrainingTask:
    loss = build(node["loss"], "loss", trust)
    if node["task"] is None:
        return SyntheticTask(build(node["data"], "data", trust), loss)
    data = build(node["data"], "data", trust, task=build(node["task"], "task", trust))
    val = data.split_pairs("val") if with_validation else []
    return (
        OwnTask(data, loss, val) if isinstance(data, OwnDataset) else ReleaseTask(data, loss, val)
    )


def _channel_problems(task: TrainingTask, network: Mapping[str, Any]) -> Sequence[Problem]:
    if isinstance(task, OwnTask):
        return channel_problems(task.data.table, network)
    if scan_channels(network) == 1:
        return []
    return [
        Problem(
            where=f"model.{SCAN_CHANNELS}={scan_channels(network)}",
            what="is for one's own data alone",
            expected="1",
            found=str(scan_channels(network)),
            remedy="leave it out, or use task=own",
        )
    ]


def _no_pseudo_labels(data: Dataset) -> Problem:
    return Problem(
        where=f"data.pseudo_labels.root={data.pseudo_labels.root}",
        what="has no labels for any training scan that lacks them",
        expected=f"label maps with the relative paths of the scans below {data.release.folder}",
        found="none",
        remedy="write them with l2reg propagate-labels, or leave this option out for task "
        f"{data.task.name} if all its scans have labels",
    )


def _unused_terms(node: Mapping[str, Any], config: Mapping[str, Any]) -> list[Problem]:
    """Return a problem for each loss term that would be 0 for every field of the network."""
    if config["trainer"]["symmetric"]:
        return []
    given = node["loss"].get("weights")
    weights = (
        {name: given.get(name, 0.0) for name in _BOTH_DIRECTIONS}
        if isinstance(given, Mapping)
        else {}
    )
    return [
        Problem(
            where=f"loss.weights.{name}",
            what="needs both directions of a pair in one batch",
            expected="trainer.symmetric=true",
            found=f"weight {weight} and trainer.symmetric=false",
            remedy="add trainer.symmetric=true, or set the weight to 0",
        )
        for name, weight in weights.items()
        if weight != 0
    ]
