"""Rebuild a trained model and its preprocessing from a checkpoint."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from l2reg.checkpoints import storage
from l2reg.checkpoints.provenance import Provenance
from l2reg.config.build import build
from l2reg.config.task_nodes import single_task_config
from l2reg.data.pairs import Pair
from l2reg.io.files import content_digest
from l2reg.problems import InputError, Problem


@dataclass(frozen=True)
class TrainedModel:
    """A model, and what it was trained with.

    Attributes:
        path: The checkpoint.
        model: With its weights, on the CPU.
        config: Of its run, with the overrides laid over it.
        trained_on: Digest of every training image: ``image`` alone or ``supervised``.
        selected_on: Digests of the fixed images by whose scores it was selected.
        origin: What its first weights had seen; ``trained_on`` holds that too.
    """

    path: Path
    model: torch.nn.Module
    config: dict[str, Any]
    trained_on: Mapping[str, str]
    selected_on: Sequence[str]
    origin: Provenance

    def leakage_notes(self, pairs: Sequence[Pair]) -> list[str]:
        """Return what somebody who reads the scores of ``pairs`` has to know."""
        digests = [{content_digest(p.fixed.image), content_digest(p.moving.image)} for p in pairs]
        seen = [{self.trained_on[d] for d in both if d in self.trained_on} for both in digests]
        supervised = sum("supervised" in kinds for kinds in seen)
        images = sum(kinds == {"image"} for kinds in seen)
        chosen, inherited = (
            sum(bool(both & set(by)) for both in digests)
            for by in (self.selected_on, self.origin.selected_on)
        )
        of = f"of {len(pairs)} pairs"
        notes = []
        if supervised:
            notes.append(f"{supervised} {of} were trained on: their scores are an overfit check")
        if images:
            notes.append(f"{images} {of} were trained on as images, without labels and points")
        if chosen:
            notes.append(f"{self.path.name} was chosen by its scores on {chosen} {of}")
        if inherited:
            first = self.origin.started_from[-1]
            notes.append(f"its first weights, {first}, were chosen by scores on {inherited} {of}")
        return notes


def load_trained_model(
    named: Path, overrides: Mapping[str, Any], task: str | None = None
) -> TrainedModel:
    """Load a checkpoint and build its model.

    Args:
        named: Run folder (its best model) or checkpoint file.
        overrides: Dotted keys of the config to lay over that of the run: ``data.root``, ...
        task: Which one of a run of mixed tasks.

    Raises:
        InputError: If the checkpoint is missing, damaged, does not fit its own config, or is of
            mixed tasks of which none is named.
    """
    path = storage.find(named)
    state = storage.load(path)
    config = single_task_config(deepcopy(state["config"]), task)
    for key, value in overrides.items():
        _set(config, key.split("."), value)
    model: torch.nn.Module = build(config["model"])
    try:
        model.load_state_dict(state["model"])
    except RuntimeError as error:
        raise InputError(
            Problem(
                where=str(path),
                what="does not fit the network that its config describes",
                expected="weights of that network",
                found=str(error).replace("\n", " ")[:300],
                remedy="load it with the version of l2reg in its run's environment.json",
            )
        ) from error
    seen = state["trained_on"], state.get("chosen_on", ())
    return TrainedModel(path, model, config, *seen, Provenance.of_run(state))


def _set(config: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    node = config
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = value
