"""Label scans that have no labels: register labelled ones onto them and let these vote."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from l2reg.data.dataset import Dataset
from l2reg.data.pairs import Pair, Scan
from l2reg.geometry.resize import resize_field
from l2reg.geometry.warp import warp
from l2reg.inference.predictor import Predictor
from l2reg.io.volumes import read_affine, read_labels, write_volume
from l2reg.problems import InputError, Problem
from l2reg.shapes import Field, LabelMap


def propagate_labels(
    data: Dataset, predictor: Predictor, out: Path, *, n_atlases: int
) -> list[Path]:
    """Write pseudo-labels for every training scan that has no labels.

    Scans kept for scoring, and their copies under other names, neither give labels nor get any
    (docs/decisions/0001). Files that are there already are left as they are.

    Args:
        data: Its training set has the scans with labels and those without.
        predictor: Registers them.
        out: Folder to write to, laid out as the task's; see ``data.pseudo_labels``.
        n_atlases: Labelled scans that vote on each scan, those of its modality first.

    Returns:
        The files, new and old.

    Raises:
        InputError: If there is nothing to label, or nothing to label it with.
        ValueError: If no atlas is to vote.
    """
    if n_atlases < 1:
        raise ValueError(f"n_atlases must be 1 or more, got {n_atlases}")
    training = data.training_set
    scans = [s for s in training.all_scans() if s.image not in training.evaluation_images]
    labelled = [scan for scan in scans if scan.labels is not None]
    targets = [scan for scan in scans if scan.labels is None]
    if not labelled or not targets:
        raise InputError(_nothing_to_do(data, len(labelled), len(targets)))
    folder, written = data.release.folder, []
    for target in tqdm(targets, "scans", disable=None):
        path = out / target.image.relative_to(folder)
        if not path.exists():
            voters = atlases_for(target, labelled, n_atlases)
            labels = vote([_moved_onto(target, atlas, predictor) for atlas in voters])
            array = labels[0, 0].numpy().astype(np.int16)
            write_volume(path, array, read_affine(target.image))
        written.append(path)
    return written


def atlases_for(target: Scan, labelled: Sequence[Scan], n_atlases: int) -> list[Scan]:
    """Return up to so many labelled scans: those of the target's modality first, then by name."""

    def order(scan: Scan) -> tuple[bool, str]:
        return scan.modality != target.modality, str(scan.image)

    return sorted(labelled, key=order)[:n_atlases]


def vote(atlases: Sequence[tuple[LabelMap, Field]]) -> LabelMap:
    """Return the label that most atlases give each voxel, background being one of the labels.

    An atlas gives each voxel to its labels in the shares that linear interpolation says, so that
    a majority counts and, for a single atlas, the nearest label. The lower label wins a tie.

    Args:
        atlases: Labels of each, and the field that brings it onto the target's grid.
    """
    values = sorted({int(v) for labels, _ in atlases for v in torch.unique(labels)})
    winner = torch.zeros_like(atlases[0][0])
    most = torch.zeros(atlases[0][0].shape)
    for value in values:
        share = torch.zeros_like(most)
        for labels, disp in atlases:
            share += warp((labels == value).float(), disp)
        winner = torch.where(share > most, value, winner)
        most = torch.maximum(most, share)
    return winner


def _moved_onto(target: Scan, atlas: Scan, predictor: Predictor) -> tuple[LabelMap, Field]:
    disp = predictor.register(Pair(fixed=target, moving=atlas)).cpu()
    assert atlas.labels is not None
    labels = torch.from_numpy(read_labels(atlas.labels).astype(np.int16))[None, None]
    return labels, resize_field(disp, predictor.reader.task.shape)


def _nothing_to_do(data: Dataset, n_labelled: int, n_targets: int) -> Problem:
    return Problem(
        where=f"task {data.task.name}, {data.release.folder}",
        what="has nothing to propagate",
        expected="training scans with labels and training scans without",
        found=f"{n_labelled} with and {n_targets} without, outside the scored pairs",
        remedy="add scans of the kind that is missing; scored scans never count",
    )
