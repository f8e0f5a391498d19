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
from l2reg.config.task_nodes import node_name, prediction_keys, scan_channels, task_nodes
from l2reg.io.files import atomic_write
from l2reg.io.output_folders import OutputKind, claim_output_folder
from l2reg.wording import quantity

CARD = "README.md"

_PROGRAM_USE = """Without l2reg, on a CPU:

    field = torch.export.load("{name}").module()(fixed, moving)

takes the scans on the grid of the task with intensities in [0, 1], `(1, {channels}, i, j, k)`, and
returns where each voxel of the fixed scan lies in the moving one, as displacements in voxels,
`(1, 3, i, j, k)`.
"""
_SETTINGS = ("model", "loss", "optimizer", "scheduler", "trainer", "data", "mixed", "seed")


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
    card = model_card(loaded.state, licence, list(programs))
    with atomic_write(out / CARD) as temporary:
        temporary.write_text(card, encoding="utf-8")
    return prediction_keys(loaded.state["config"], out)


def model_card(state: Mapping[str, Any], licence: str, programs: Sequence[str] = ()) -> str:
    """Return the card of a checkpoint: Markdown, with a header in YAML as model hubs read it.

    Args:
        state: Content of the checkpoint.
        licence: Licence of the weights.
        programs: Names of the files with programs of ``torch.export``.
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
    what, keys = "registration" if all(tasks) else "descriptors", prediction_keys(config, "FOLDER")
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
    lines += ["## Use", "", f"    l2reg predict {keys} split=val", ""]
    channels = scan_channels(config["model"])
    lines += [_PROGRAM_USE.format(name=name, channels=channels) for name in programs]
    lines += ["The header of the weights has the digests of the images. Not for clinical use.", ""]
    lines += [
        "## Settings",
        "",
        "```yaml",
        yaml.safe_dump(settings, sort_keys=False).strip(),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _table(header: tuple[str, str], rows: Mapping[str, str]) -> list[str]:
    return [f"| {header[0]} | {header[1]} |", "|---|---|"] + [
        f"| {name} | {value} |" for name, value in rows.items()
    ]


def _number(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.4f}"


def _digest_of(digests: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()
