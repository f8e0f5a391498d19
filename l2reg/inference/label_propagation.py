"""Label propagation: register labelled scans (atlases) to unlabelled ones, and fuse by vote."""

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
from l2reg.io.volumes import place_problems, read_labels, read_placement, write_volume
from l2reg.problems import InputError, Problem, raise_if_any
from l2reg.shapes import Field, LabelMap


def propagate_labels(
    data: Dataset, predictor: Predictor, out: Path, *, n_atlases: int
) -> list[Path]:
    """Write pseudo-labels for every training scan that has no labels.

    Scans kept for scoring, and their copies under other names, are neither atlases nor labelled
    (docs/decisions/0001). Files that exist are kept.

    Args:
        data: The data set whose training scans are labelled.
        predictor: The method that registers each atlas to the scan.
        out: Folder to write to, with the layout of the task's folder; see ``data.pseudo_labels``.
        n_atlases: Number of atlases that vote on each scan; those of its modality come first.

    Returns:
        The label maps, those that existed included.

    Raises:
        InputError: Before anything is computed, if there is no scan without labels, or no atlas, or
            the header of a scan to label states no valid place.
        ValueError: If ``n_atlases`` is below 1.
    """
    if n_atlases < 1:
        raise ValueError(f"n_atlases must be 1 or more, got {n_atlases}")
    training = data.training_set
    scans = [s for s in training.all_scans() if s.image not in training.evaluation_images]
    labelled = [scan for scan in scans if scan.labels is not None]
    targets = [scan for scan in scans if scan.labels is None]
    if not labelled or not targets:
        raise InputError(_nothing_to_do(data, len(labelled), len(targets)))
    folder = data.release.folder
    paths = [out / target.image.relative_to(folder) for target in targets]
    missing = [each for each in zip(targets, paths, strict=True) if not each[1].exists()]
    raise_if_any(place_problems(target.image for target, _ in missing))
    for target, path in tqdm(missing, "scans", disable=None):
        atlases = atlases_for(target, labelled, n_atlases)
        labels = vote([_register_atlas(target, atlas, predictor) for atlas in atlases])
        array = labels[0, 0].numpy().astype(np.int16)
        write_volume(path, array, read_placement(target.image))
    return paths


def atlases_for(target: Scan, labelled: Sequence[Scan], n_atlases: int) -> list[Scan]:
    """Return up to ``n_atlases`` labelled scans: those of the target's modality first, by name."""

    def order(scan: Scan) -> tuple[bool, str]:
        return scan.modality != target.modality, str(scan.image)

    return sorted(labelled, key=order)[:n_atlases]


def vote(atlases: Sequence[tuple[LabelMap, Field]]) -> LabelMap:
    """Return the label with the largest vote at each voxel; background is one of the labels.

    The vote of an atlas for a label is its warped indicator function, linearly interpolated: a
    fraction between 0 and 1. A single atlas thus gives the nearest label. The lower label wins a
    tie.

    Args:
        atlases: The label map of each atlas, and the field from the target's grid to it.
    """
    values = sorted({int(v) for labels, _ in atlases for v in torch.unique(labels)})
    winner = torch.zeros_like(atlases[0][0])
    max_votes = torch.zeros(atlases[0][0].shape)
    for value in values:
        votes = torch.zeros_like(max_votes)
        for labels, disp in atlases:
            votes += warp((labels == value).float(), disp)
        winner = torch.where(votes > max_votes, value, winner)
        max_votes = torch.maximum(max_votes, votes)
    return winner


def _register_atlas(target: Scan, atlas: Scan, predictor: Predictor) -> tuple[LabelMap, Field]:
    """Return the labels of an atlas, and the field that warps them to the target."""
    disp = predictor.register(Pair(fixed=target, moving=atlas)).cpu()
    assert atlas.labels is not None
    labels = torch.from_numpy(read_labels(atlas.labels).astype(np.int16))[None, None]
    return labels, resize_field(disp, predictor.reader.task.shape)


def _nothing_to_do(data: Dataset, n_labelled: int, n_targets: int) -> Problem:
    return Problem(
        where=f"task {data.task.name}, {data.release.folder}",
        what="has no labels to propagate, or no scan to label",
        expected="training scans with labels and training scans without",
        found=f"{n_labelled} with and {n_targets} without, outside of the scored pairs",
        remedy="add scans of the missing kind; scans kept for scoring do not count",
    )
