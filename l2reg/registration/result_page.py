"""HTML report of one registration: verdict, scores, and the pair to look at."""

import html
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from l2reg.registration.annotations import Annotations, Scores, read_annotations
from l2reg.registration.result import Registration
from l2reg.registration.scan_files import ScanFiles
from l2reg.registration.verdict import Verdict
from l2reg.reporting.page import flags_html, provenance, provenance_html, table_html, write_page
from l2reg.reporting.registered_pair import Landmarks, RegisteredPair, orientation
from l2reg.reporting.viewer import viewer_html
from l2reg.transforms.image_grid import ImageGrid
from l2reg.transforms.warped_scan import warp_label_map
from l2reg.transforms.world import voxels_to_world
from l2reg.transforms.world_transform import WorldTransform

_MAX_LANDMARKS = 20  # in the table; all are drawn


def write_result_page(
    path: Path,
    result: Registration,
    fixed: ScanFiles,
    moving: ScanFiles,
    *,
    heading: str = "The pair",
    **details: str,
) -> None:
    """Write a page on a registration.

    Args:
        path: HTML file to write.
        result: The registration.
        fixed: Files of the fixed scan, whose labels and landmarks are drawn.
        moving: Files of the moving scan.
        heading: Heading of what is shown of the pair.
        details: How it was made, see ``provenance``.
    """
    annotations = read_annotations(fixed, moving)
    title = f"{moving.image.path.name} registered to {fixed.image.path.name}"
    pair = add_annotations(result.picture, result.picture_grid, annotations, result.transform)
    made = provenance(
        **details,
        fixed=str(fixed.image),
        moving=str(moving.image),
        notes="the viewer shows the fixed scan at the resolution that was registered; grid and "
        "change of volume are those after the initial map",
    )
    parts = [f"<h1>{html.escape(title)}</h1>", flags_html(result.verdict.flags)]
    viewer = viewer_html(pair, heading, opened=True)
    scored = _score_tables(result.scores, "")
    used = _score_tables(result.fit, " (used, not a score)")
    tables = chain([_verdict_html(result.verdict)], scored, used)
    write_page(path, title, chain(parts, [viewer], tables, [provenance_html(made)]))


def add_annotations(
    picture: RegisteredPair, place: ImageGrid, annotations: Annotations, transform: WorldTransform
) -> RegisteredPair:
    """Return a picture with the labels and landmarks of its scans, and where its axes lead.

    Args:
        picture: The pair on its working grid.
        place: That grid.
        annotations: Labels and landmarks on the grids of the scans.
        transform: Map from fixed to moving positions.
    """
    affine = place.place.affine
    picture = replace(picture, orientation=orientation(affine))
    if annotations.labels is not None:
        stay = WorldTransform(())
        fixed, warped = (
            warp_label_map(labels, torch.from_numpy(by.voxel_field(place, grid.place.affine))[None])
            for labels, by, grid in zip(
                annotations.labels, (stay, transform), annotations.grids, strict=True
            )
        )
        picture = replace(picture, fixed_labels=fixed, warped_labels=warped)
    if annotations.points is not None:
        fixed_mm, moving_mm = annotations.points
        to_voxels = np.linalg.inv(affine)
        residuals_mm = moving_mm - transform(fixed_mm)
        landmarks = Landmarks(
            positions=voxels_to_world(to_voxels, fixed_mm).T,
            residuals=(to_voxels[:3, :3] @ residuals_mm).T,
            errors_mm=np.linalg.norm(residuals_mm, axis=0),
        )
        picture = replace(picture, landmarks=landmarks)
    return picture


def _verdict_html(verdict: Verdict) -> str:
    rows = [
        ("similarity, 1 at its best", verdict.similarity_before, verdict.similarity_after),
        ("correlation of the local contrast", verdict.contrast_before, verdict.contrast_after),
    ]
    lines = [(name, f"{before:.2f}", f"{after:.2f}") for name, before, after in rows]
    lines += [
        ("overlap of the fields of view", "", f"{100 * verdict.overlap:.0f} %"),
        ("mean displacement after the initial map", "", f"{verdict.mean_displacement_mm:.1f} mm"),
        ("largest displacement", "", f"{verdict.max_displacement_mm:.1f} mm"),
        ("folds", "", f"{100 * verdict.folds:.3f} %"),
    ]
    return table_html(("", "before", "after"), lines)


def _score_tables(scores: Mapping[str, Scores], note: str) -> Iterator[str]:
    """Yield the scores of labels and landmarks, the worst first, with a note in the titles."""
    if not scores:
        return
    before, after = scores["before"], scores["after"]
    if after.dice:
        yield f"<h2>Labels{note}, the worst first</h2>"
        worst = sorted(after.dice, key=lambda label: after.dice[label])
        rows = [("mean", before.mean_dice, after.mean_dice)]
        rows += [(f"label {label}", before.dice[label], after.dice[label]) for label in worst]
        lines = [(name, f"{old:.3f}", f"{new:.3f}") for name, old, new in rows]
        yield table_html(("Dice", "before", "after"), lines)
    if after.tre_mm:
        yield f"<h2>Landmarks{note}, the worst first, at most {_MAX_LANDMARKS}</h2>"
        worst = sorted(range(len(after.tre_mm)), key=lambda n: -after.tre_mm[n])[:_MAX_LANDMARKS]
        rows = [("mean", before.mean_tre_mm, after.mean_tre_mm)]
        rows += [(f"row {n + 1}", before.tre_mm[n], after.tre_mm[n]) for n in worst]
        lines = [(name, f"{old:.1f}", f"{new:.1f}") for name, old, new in rows]
        yield table_html(("error mm", "before", "after"), lines)
