"""A trained model from a checkpoint, with its config and its data leakage."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from l2reg.checkpoints import storage
from l2reg.checkpoints.provenance import Provenance
from l2reg.checkpoints.run_checkpoints import load_checkpoint
from l2reg.config.allowed import ForbiddenTargetError
from l2reg.config.build import build
from l2reg.config.task_nodes import node_name, single_task_config
from l2reg.data.pairs import Pair
from l2reg.io.scan_source import scan_digest
from l2reg.problems import InputError, Problem
from l2reg.wording import quantity

KEYS = ("model", "task", "data")  # of a run's config: all that a prediction is built from


@dataclass(frozen=True)
class TrainedModel:
    """A model with its weights, and what it was trained with.

    Attributes:
        path: The checkpoint file.
        model: The network with its weights, on the CPU.
        config: The nodes of ``KEYS`` of its run, with the overrides applied, and ``trust``: that of
            the caller, never that of the run.
        trained_on: The use of every training image, by digest: ``image`` (without labels and
            points) or ``supervised``.
        selected_on: The digests of the fixed images by whose scores the checkpoint was selected.
        origin: The provenance of its initial weights; ``trained_on`` includes their images.
        fallback_notes: A sentence for each damaged checkpoint in place of which it was taken.
    """

    path: Path
    model: torch.nn.Module
    config: dict[str, Any]
    trained_on: Mapping[str, str]
    selected_on: Sequence[str]
    origin: Provenance
    fallback_notes: Sequence[str] = ()

    def leakage_notes(self, pairs: Sequence[Pair]) -> list[str]:
        """Return notes on data leakage: pairs that the model was trained on or selected by."""
        digests = [
            {scan_digest(c.image) for scan in (p.fixed, p.moving) for c in scan.each_channel}
            for p in pairs
        ]
        uses = [{self.trained_on[d] for d in both if d in self.trained_on} for both in digests]
        supervised = sum("supervised" in kinds for kinds in uses)
        images = sum(kinds == {"image"} for kinds in uses)
        selected, inherited = (
            sum(bool(both & set(images_used)) for both in digests)
            for images_used in (self.selected_on, self.origin.selected_on)
        )
        of = f"of {quantity(len(pairs), 'pair')}"
        notes = []
        if supervised:
            notes.append(f"trained on {supervised} {of}: their scores are an overfit check")
        if images:
            notes.append(f"trained on the images of {images} {of}, without labels and points")
        if selected:
            notes.append(f"{self.path.name} was selected by its scores on {selected} {of}")
        if inherited:
            parent = self.origin.started_from[-1]
            notes.append(
                f"its initial weights, {parent}, were selected by scores on {inherited} {of}"
            )
        if self.origin.imported_from:
            files = ", ".join(self.origin.imported_from)
            notes.append(
                f"its weights come from {files}, trained outside l2reg on images that are unknown "
                "here (by LapIRN's authors: OASIS): these pairs may be among them"
            )
        return notes


def load_trained_model(
    checkpoint: Path,
    overrides: Mapping[str, Any],
    task: str | None = None,
    trust: Sequence[str] = (),
) -> TrainedModel:
    """Load a checkpoint and build its model.

    Args:
        checkpoint: Run folder (its best model; another one if it is damaged, see
            ``load_checkpoint``) or checkpoint file.
        overrides: New values of the run's config by dotted key, such as ``data.root``.
        task: Name of the task, for a run of mixed tasks.
        trust: Packages or modules of the user whose classes the checkpoint may name.

    Raises:
        InputError: If the checkpoint is missing or damaged, names a class that it may not, does not
            fit its own config, is of descriptors, is of mixed tasks and ``task`` is none of them,
            or does not take the ``model.smoothness`` of the overrides.
    """
    loaded = load_checkpoint(checkpoint)
    path, state = loaded.path, loaded.state
    for note in loaded.notes:
        tqdm.write(f"warning: {note}")
    run = single_task_config(deepcopy(state["config"]), task)
    if run.get("task", {}) is None:
        raise InputError(_no_registration(checkpoint))
    config = {key: run[key] for key in KEYS if key in run} | {"trust": list(trust)}
    if "model.smoothness" in overrides:
        _check_smoothness(overrides["model.smoothness"], config["model"])
    for key, value in overrides.items():
        _set(config, key.split("."), value)
    if "data.root" in overrides and "root" in config["task"]:  # of a task that makes its data there
        config["task"]["root"] = overrides["data.root"]
    try:
        model: torch.nn.Module = build(config["model"], "model", trust)
        model.load_state_dict(storage.weights(state))
    except ForbiddenTargetError as error:
        where = f"{path}, {error.problems[0].where}"
        raise ForbiddenTargetError(replace(error.problems[0], where=where)) from error
    except (InputError, RuntimeError) as error:
        raise InputError(
            Problem(
                where=str(path),
                what="does not fit the network that its config describes",
                expected="a network of this version of l2reg, and its weights",
                found=" ".join(str(error).split())[:300],
                remedy=storage.OTHER_BUILD,
            )
        ) from error
    return TrainedModel(
        path,
        model,
        config,
        state["trained_on"],
        state.get("chosen_on", ()),
        Provenance.of_run(state),
        loaded.notes,
    )


def _no_registration(checkpoint: Path) -> Problem:
    return Problem(
        where=f"ckpt={checkpoint}",
        what="registers no scans",
        expected="a network that was trained on pairs of a task",
        found="descriptors, which are features of a method without training",
        remedy=f"model=convex_learned model.features.learned.weights={checkpoint}",
    )


def _check_smoothness(smoothness: object, model: Mapping[str, Any]) -> None:
    """Raise an ``InputError`` unless a network has been trained for this smoothness."""
    largest = model.get("max_smoothness") if model.get("smoothness") is not None else None
    if largest is None:
        what, expected = "is no input of this network", "a run of model=clapirn"
        found, remedy = node_name(model), "leave it out"
    elif not (isinstance(smoothness, int | float) and 0 <= smoothness <= largest):
        what, expected = "was not trained for", f"a number from 0 to {largest:g}"
        found, remedy = repr(smoothness), "choose a value of this range"
    else:
        return
    where = f"smoothness={smoothness}"
    raise InputError(Problem(where=where, what=what, expected=expected, found=found, remedy=remedy))


def _set(config: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    node = config
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = value
