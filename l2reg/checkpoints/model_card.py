"""Model card: what a model is, what it was trained on and how it scored, as a README.md."""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from tqdm import tqdm

from l2reg.checkpoints.model_export import WEIGHTS, without_paths, write_export
from l2reg.checkpoints.provenance import Provenance
from l2reg.checkpoints.run_checkpoints import load_checkpoint
from l2reg.checkpoints.storage import weights
from l2reg.checkpoints.torch_export import programs_of
from l2reg.config.task_nodes import node_name, prediction_keys, task_nodes
from l2reg.io.files import atomic_write
from l2reg.io.output_folders import OutputKind, claim_output_folder
from l2reg.wording import quantity

CARD = "README.md"

_PROGRAM_USE = """Without l2reg, on a CPU:

    field = torch.export.load("{name}").module()(fixed, moving)

takes tensors of shape {shape}: the scans with intensities in [0, 1] as `task.intensity` below
scales them, on the grid of `task.shape` resized to this shape between the same corners. It returns
where each voxel of the fixed scan lies in the moving one, as displacements in voxels of this grid.
"""
_NONE: Mapping[str, Sequence[int]] = {}
_SETTINGS = ("task", "model", "loss", "optimizer", "scheduler", "trainer", "data", "mixed", "seed")


def export_model(
    checkpoint: Path,
    out: Path,
    licence: str,
    *,
    as_program: bool = False,
    trust: Sequence[str] = (),
) -> str:
    """Write the weights and the card of a trained model.

    Args:
        checkpoint: Run folder (its best model) or checkpoint file.
        out: Folder, which must be new or empty.
        licence: Licence of the weights, which nothing else tells.
        as_program: Whether programs are written as well, see ``checkpoints.torch_export``.
        trust: Packages or modules of the user whose classes a program may be made of.

    Returns:
        The keys with which ``l2reg predict`` uses the folder.

    Raises:
        InputError: If there is no such checkpoint, the folder holds files, or the network cannot be
            exported as a program.
    """
    loaded = load_checkpoint(checkpoint)
    for note in loaded.notes:
        tqdm.write(f"warning: {note}")
    claim_output_folder(out, OutputKind.RUN, overwrite=False, inputs=[loaded.path])
    programs = programs_of(loaded.path, loaded.state["config"], trust) if as_program else {}
    write_export(out / WEIGHTS, loaded.state)
    for name, program in programs.items():
        with atomic_write(out / name) as temporary, temporary.open("wb") as file:
            torch.export.save(program, file)
    shapes = {name: each.example_inputs[0][0].shape for name, each in programs.items()}
    card = model_card(loaded.state, licence, shapes)
    with atomic_write(out / CARD) as temporary:
        temporary.write_text(card, encoding="utf-8")
    return _use(loaded.state["config"], out)


def model_card(
    state: Mapping[str, Any], licence: str, programs: Mapping[str, Sequence[int]] = _NONE
) -> str:
    """Return the card of a checkpoint: Markdown, with a header in YAML as model hubs read it.

    Args:
        state: Content of the checkpoint.
        licence: Licence of the weights.
        programs: Shape of a scan that a program of ``torch.export`` takes, by its file name.
    """
    config, origin = state["config"], Provenance.of_run(state)
    header = {
        "license": licence,
        "library_name": "l2reg",
        "tags": ["medical-imaging", "image-registration"],
    }
    tasks = [node["task"] for node in task_nodes(config).values()]
    names = [node_name(task) if task else "synthetic views" for task in tasks]
    uses = list(state["trained_on"].values())
    facts = {
        "task": ", ".join(names),
        "network": config["model"]["_target_"],
        "weights": f"{sum(tensor.numel() for tensor in weights(state).values()):,} numbers "
        f"in `{WEIGHTS}`, after {quantity(state['step'], 'step')}",
        "l2reg": state["l2reg"],
        "trained on": f"{quantity(len(uses), 'image')}, {uses.count('supervised')} with labels or "
        f"points; SHA-256 of their digests {_digest_of(state['trained_on'])}",
        "selected by its scores on": f"{quantity(len(state['chosen_on']), 'fixed image')}; SHA-256 "
        f"of their digests {_digest_of(state['chosen_on'])}"
        if "chosen_on" in state
        else "nothing",
        "started from": ", ".join(origin.started_from) or "random weights",
        "licence": licence,
    }
    what = "registration" if all(tasks) else "descriptors"
    lines = [
        "---",
        yaml.safe_dump(header, sort_keys=False).strip(),
        "---",
        "",
        f"# {facts['network'].rpartition('.')[2]}, {what} of {facts['task']}",
        "",
        *_table(("", ""), facts),
        "",
    ]
    if scores := state.get("scores"):
        values = {
            n.removeprefix("val/").removeprefix("val_"): _number(v) for n, v in scores.items()
        }
        text = "Means over the validation pairs, without further refinement:"
        lines += ["## Scores", "", text, "", *_table(("metric", "mean"), values), ""]
    settings = {key: value for key, value in without_paths(config).items() if key in _SETTINGS}
    lines += ["## Use", "", f"    l2reg predict {_use(config, 'FOLDER')}", ""]
    lines += [
        _PROGRAM_USE.format(name=name, shape=tuple(shape)) for name, shape in programs.items()
    ]
    lines += ["The header of the weights has the digests of the images. Not for clinical use.", ""]
    lines += [
        "## Settings",
        "",
        "```yaml",
        yaml.safe_dump(settings, sort_keys=False).strip(),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _use(config: Mapping[str, Any], folder: Path | str) -> str:
    """Return the keys with which ``l2reg predict`` uses an exported model, which names no scans."""
    keys, task = prediction_keys(config, folder), config.get("task")
    if task and node_name(task) == "own":
        return f"{keys} data.pairs=my.csv split=all"
    return f"{keys} split=val"


def _table(header: tuple[str, str], rows: Mapping[str, str]) -> list[str]:
    return [f"| {header[0]} | {header[1]} |", "|---|---|"] + [
        f"| {name} | {value} |" for name, value in rows.items()
    ]


def _number(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.4f}"


def _digest_of(digests: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()
