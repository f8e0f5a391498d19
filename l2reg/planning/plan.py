"""Plan for one's own data: settings of ``l2reg train`` by its fingerprint, with reasons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from l2reg.config.presets import load_preset
from l2reg.config.task_nodes import SCAN_CHANNELS
from l2reg.data.pairs import channel_modalities
from l2reg.io.files import atomic_write
from l2reg.own_data.dataset import SIDES, SINGLE
from l2reg.planning.fingerprint import Fingerprint
from l2reg.shapes import Shape3, Spacing
from l2reg.wording import quantity

_ROUND_MM = 0.05
_GROWTH = 1.02  # of the spacing, until the grid is small enough


@dataclass(frozen=True)
class Plan:
    """Settings that are proposed.

    Attributes:
        shape: Shape of the grid of a pair, to the right, front and top.
        spacing_mm: Its spacing.
        start: ``data.start``.
        loss: Name of the loss.
        model: Name of the network.
        width: Keys of the network that set its number of feature maps.
        n_channels: Number of channels of each scan.
        intensity: Normalisation by side and further channel, as nodes of a config.
        reasons: Why, a line for each setting.
    """

    shape: Shape3
    spacing_mm: Spacing
    start: str
    loss: str
    model: str
    width: Mapping[str, list[int]]
    n_channels: int
    intensity: Mapping[str, Mapping[str, Any]]
    reasons: Sequence[str]

    @property
    def network(self) -> dict[str, Any]:
        """Keys of ``model`` that differ from those of its YAML."""
        channels = {SCAN_CHANNELS: self.n_channels} if self.n_channels > 1 else {}
        return {**self.width, **channels}

    @property
    def task(self) -> dict[str, Any]:
        """Keys of ``task`` that have no default."""
        spacing = [round(mm, 4) for mm in self.spacing_mm]
        intensity = {side: dict(node) for side, node in self.intensity.items()}
        return {"shape": list(self.shape), "spacing_mm": spacing, "intensity": intensity}


def propose(facts: Fingerprint, device: str, max_voxels: int | None = None) -> Plan:
    """Return the settings that suit a data set.

    Args:
        facts: Its fingerprint.
        device: Kind of the device to train on: ``cpu`` or ``cuda``.
        max_voxels: Largest number of voxels of the grid; by default that of the device.
    """
    settings = load_preset("planning", "default")
    limit = max_voxels or settings["max_voxels"][device]
    shape, spacing_mm, grid_reason = _grid(facts, settings, limit)
    start, start_reason = _start(facts, settings)
    loss, loss_reason = _loss(facts, settings)
    model, model_reason = _model(facts, settings, spacing_mm)
    width = _width(model, settings["narrow"]) if device == "cpu" else {}
    intensity, intensity_reasons = _intensity(facts)
    reasons = [
        f"task.shape, task.spacing_mm: {grid_reason}",
        f"data.start={start}: {start_reason}",
        *intensity_reasons,
        f"loss={loss}: {loss_reason}",
        f"model={model}: {model_reason}",
    ]
    if width:
        reasons.append(f"model.{', model.'.join(width)}: {settings['narrow']:g} times the feature "
                       "maps, for a CPU")  # fmt: skip
    if facts.n_channels > 1:
        reasons.append(f"model.{SCAN_CHANNELS}: {facts.n_channels} of each scan")
    return Plan(shape, spacing_mm, start, loss, model, width, facts.n_channels, intensity, reasons)


def write_plan(
    path: Path, plan: Plan, facts: Fingerprint, table: Path, coordinates: str | None
) -> None:
    """Write a plan as an experiment of ``l2reg train``.

    Args:
        path: YAML file to write.
        plan: The plan.
        facts: The fingerprint, which goes into comments.
        table: The table of scans.
        coordinates: Coordinates of its points.
    """
    data = {"pairs": str(table.absolute()), "start": plan.start, "coordinates": coordinates}
    content: dict[str, Any] = {
        "defaults": [{"override /task": "own"}, {"override /model": plan.model},
                     {"override /loss": plan.loss}],
        "task": plan.task,
        "data": data,
    }  # fmt: skip
    if plan.network:
        content["model"] = plan.network
    comments = [f"Proposed by l2reg plan {table.name}", *facts.lines(), *plan.reasons]
    text = "# @package _global_\n" + "".join(f"# {line}\n" for line in comments)
    with atomic_write(path) as temporary:
        temporary.write_text(
            text + yaml.safe_dump(content, sort_keys=False, default_flow_style=None),
            encoding="utf-8",
        )


def _grid(
    facts: Fingerprint, settings: Mapping[str, Any], max_voxels: int
) -> tuple[Shape3, Spacing, str]:
    """Return the median spacing, coarser where the grid would be too large, and the shape."""
    cover = np.quantile(facts.extents_mm, settings["quantile"], axis=0, method="higher")
    median = np.median(facts.spacings_mm, axis=0)
    spacing = median.copy()
    while np.prod(_shape(cover, spacing, settings["multiple"])) > max_voxels:
        finest = spacing <= spacing.min() * _GROWTH  # so that voxels become isotropic
        spacing = np.where(finest, spacing * _GROWTH, spacing)
    if not np.array_equal(spacing, median):
        spacing = np.ceil(spacing / _ROUND_MM) * _ROUND_MM
    i, j, k = _shape(cover, spacing, settings["multiple"]).tolist()
    i_mm, j_mm, k_mm = spacing.tolist()
    medians = " x ".join(f"{mm:.3g}" for mm in median)
    what = f"the median spacing is {medians} mm"
    if not np.array_equal(spacing, median):
        what += f", too fine for {max_voxels:,} voxels"
    n_cropped = int((facts.extents_mm > cover + 1e-3).any(axis=1).sum())
    what += f"; {quantity(n_cropped, 'scan')} cropped" if n_cropped else "; no scan is cropped"
    return (i, j, k), (i_mm, j_mm, k_mm), what


def _shape(cover_mm: np.ndarray, spacing_mm: np.ndarray, multiple: int) -> np.ndarray:
    n_voxels = np.ceil(cover_mm / spacing_mm - 1e-6) + 1
    shape: np.ndarray = (np.ceil(n_voxels / multiple) * multiple).astype(int)
    return shape


def _start(facts: Fingerprint, settings: Mapping[str, Any]) -> tuple[str, str]:
    least, median = min(facts.overlaps), float(np.median(facts.overlaps))
    if not facts.paired:
        if least >= settings["common_space"]:
            return "headers", "all scans lie at one place"
        least_shared = f"two of them share only {100 * least:.0f} %"
        return "centres", f"single scans do not all lie at one place: {least_shared}"
    if median >= settings["min_overlap"]:
        return "headers", f"pairs share {100 * median:.0f} % by their headers"
    return (
        "centres",
        f"pairs share only {100 * median:.0f} % by their headers; if they are turned, \
add data.prealign=rigid",
    )


def _loss(facts: Fingerprint, settings: Mapping[str, Any]) -> tuple[str, str]:
    kinds = {kind for counts in facts.modalities.values() for kind in counts}
    contrast = float(np.median(facts.contrasts))
    if len(kinds) > 1:
        return "mind", "CT and other scans"
    if kinds == {"CT"}:
        return "mind", "CT, as in the recipe of the lung"
    if not facts.paired:
        return "lncc", "single scans of one kind"
    if contrast >= settings["min_contrast"]:
        return "lncc", f"one contrast (correlation {contrast:.2f})"
    return "mind", f"perhaps of two contrasts (correlation {contrast:.2f})"


def _model(facts: Fingerprint, settings: Mapping[str, Any], spacing_mm: Spacing) -> tuple[str, str]:
    if not facts.displacements_mm:
        return "unet", "no points tell how far structures move"
    far = float(np.percentile(facts.displacements_mm, 95)) / (2 * float(np.mean(spacing_mm)))
    told = f"95 % of the points move by less than {far:.1f} voxels of the working grid"
    return ("pyramid" if far > settings["max_displacement"] else "unet"), told


def _width(model: str, factor: float) -> dict[str, list[int]]:
    """Return fewer feature maps of a network, as the keys of its YAML."""
    node = load_preset("model", model)
    keys = ("encoder", "decoder", "final") if model == "unet" else ("features", "estimator")
    return {key: [max(4, round(n * factor)) for n in node[key]] for key in keys}


def _intensity(facts: Fingerprint) -> tuple[dict[str, Mapping[str, Any]], list[str]]:
    """Return the normalisation of each side, that of ``l2reg register`` for what they are."""
    preset = max(facts.presets, key=lambda name: facts.presets[name])
    windows = load_preset("register", "default")["intensity"][preset]
    nodes: dict[str, Mapping[str, Any]] = {}
    reasons = []
    for side, counts in facts.modalities.items():
        kind = max(counts, key=lambda each: counts[each])
        nodes[side] = windows[kind]
        values = f"{windows[kind]['low']:g} to {windows[kind]['high']:g}"
        mixed = "" if len(counts) == 1 else f"; !!! {dict(counts)} are mixed in one column"
        what = f"HU {values}" if kind == "CT" else f"percentiles {values}"
        reasons.append(f"task.intensity.{side}: {what}{mixed}")
    first = [*nodes][: facts.n_channels]
    for side in (*SIDES, SINGLE):
        names = [side, *channel_modalities(side, facts.n_channels - 1)]
        for name, like in zip(names, first, strict=True):
            nodes.setdefault(name, nodes[like])
    return nodes, reasons
