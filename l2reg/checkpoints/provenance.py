"""Provenance of a network: the images it was trained on and selected by, over all earlier runs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Provenance:
    """Origin of the initial weights of a run, over all runs before it.

    Attributes:
        started_from: The checkpoints that the weights come from, oldest first.
        trained_on: The use of every training image, by digest: ``image`` (without labels and
            points) or ``supervised``.
        selected_on: The digests of the fixed images by whose scores one of the checkpoints was
            selected.
        imported_from: Files of other programs that the weights come from; which images those were
            trained on is unknown.
    """

    started_from: Sequence[str] = ()
    trained_on: Mapping[str, str] = field(default_factory=dict)
    selected_on: Sequence[str] = ()
    imported_from: Sequence[str] = ()

    @classmethod
    def of_run(cls, state: Mapping[str, Any]) -> "Provenance":
        """Return the provenance that is stored in the checkpoint of a run."""
        origin = dict(state.get("origin", {}))
        selected_on = origin.pop("chosen_on", ())
        return cls(**origin, selected_on=selected_on)

    @classmethod
    def from_parent(cls, path: Path, state: Mapping[str, Any]) -> "Provenance":
        """Return the provenance of a run that starts from the checkpoint ``state`` at ``path``."""
        parent = cls.of_run(state)
        return cls(
            started_from=[*parent.started_from, f"{path} (step {state['step']})"],
            trained_on=state["trained_on"],  # includes the images of the runs before it
            selected_on=sorted({*parent.selected_on, *state.get("chosen_on", ())}),
            imported_from=parent.imported_from,
        )

    def merge_trained_on(self, *more: Mapping[str, str]) -> dict[str, str]:
        """Return all training images; an image that was ever ``supervised`` stays so.

        Args:
            more: Further training images: ``image`` or ``supervised`` by digest.
        """
        merged: dict[str, str] = {}
        for images in (self.trained_on, *more):
            for digest, use in images.items():
                if merged.get(digest) != "supervised":
                    merged[digest] = use
        return merged

    def as_dict(self) -> dict[str, Any]:
        """Return the entry ``origin`` of a checkpoint, which ``of_run`` reads."""
        origin = asdict(self)
        origin["chosen_on"] = origin.pop("selected_on")
        return origin
