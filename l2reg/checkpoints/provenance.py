"""Provenance: which images a network was trained on and selected by, over all runs before it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Provenance:
    """Where the first weights of a run come from, over all runs before it.

    Attributes:
        started_from: Checkpoints, oldest first.
        trained_on: Digest of every image they were trained on: ``image`` or ``supervised``.
        selected_on: Digests of the fixed images by whose scores one of them was selected.
    """

    started_from: Sequence[str] = ()
    trained_on: Mapping[str, str] = field(default_factory=dict)
    selected_on: Sequence[str] = ()

    @classmethod
    def of_run(cls, state: Mapping[str, Any]) -> "Provenance":
        """Return the origin that the checkpoint of a run remembers."""
        stored = dict(state.get("origin", {}))
        selected_on = stored.pop("chosen_on", ())
        return cls(**stored, selected_on=selected_on)

    @classmethod
    def from_parent(cls, path: Path, state: Mapping[str, Any]) -> "Provenance":
        """Return the origin of a run that starts from the checkpoint ``state`` at ``path``."""
        before = cls.of_run(state)
        return cls(
            started_from=[*before.started_from, f"{path} (step {state['step']})"],
            trained_on=state["trained_on"],  # which holds those of the runs before it
            selected_on=sorted({*before.selected_on, *state.get("chosen_on", ())}),
        )

    def and_trained_on(self, *more: Mapping[str, str]) -> dict[str, str]:
        """Return all images ever trained on: ``supervised`` if they were so once."""
        merged: dict[str, str] = {}
        for seen in (self.trained_on, *more):
            for digest, how in seen.items():
                if merged.get(digest) != "supervised":
                    merged[digest] = how
        return merged

    def stored(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, for ``of_run``."""
        stored = asdict(self)
        stored["chosen_on"] = stored.pop("selected_on")
        return stored
