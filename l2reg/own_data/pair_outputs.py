"""What is predicted for a pair of one's own: the files and the verdict of ``l2reg register``."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from l2reg.batch import first_channel, to_device
from l2reg.config.build import build
from l2reg.config.presets import load_preset
from l2reg.data.pairs import Pair
from l2reg.geometry.affine import resize_affine
from l2reg.geometry.resize import resize_field
from l2reg.geometry.warp import warp_with_fill
from l2reg.inference.method import CPU
from l2reg.inference.predictor import Predictor
from l2reg.io.scan_source import input_digest
from l2reg.own_data.own_table import OwnRow
from l2reg.own_data.reader import OwnPairReader
from l2reg.registration.annotations import read_annotations, score_flags
from l2reg.registration.input_checks import check_outputs, check_overlap
from l2reg.registration.outputs import draw_picture, registered_pair, write_report
from l2reg.registration.result import (
    Registration,
    RegistrationFiles,
    write_scans,
    write_stages,
)
from l2reg.registration.scan_files import ScanFiles
from l2reg.registration.scan_pair import ScanPair, read_scans
from l2reg.registration.small_scans import shrink_scans
from l2reg.registration.start import Start
from l2reg.registration.transform_scans import TransformScans
from l2reg.registration.verdict import Outcome, Verdict
from l2reg.registration.working_grid import overlap_regions, shared_fraction
from l2reg.shapes import Affine, Field
from l2reg.transforms.image_grid import ImageGrid
from l2reg.transforms.pair_grid import working_image_grid
from l2reg.transforms.world import voxel_map, voxels_to_world
from l2reg.transforms.world_transform import (
    AffineMap,
    DisplacementMap,
    WorldTransform,
    displacement_map,
)
from l2reg.version import __version__

_ANY_CONTRAST = "abdomen"  # preset by which a result is judged
_NO_LIMIT = (np.inf, np.inf, np.inf)  # mm; a network has no reach that its field would hit


def own_transform(
    disp: Field, prealign: Affine, grids: tuple[ImageGrid, ImageGrid], fixed: ImageGrid
) -> tuple[DisplacementMap, AffineMap, DisplacementMap]:
    """Return a field on the grid of the fixed scan, and the two stages that it consists of.

    Beyond the grid of the pair the displacement continues as that of the nearest edge, so that
    it has no jump where the fixed scan is larger.

    Args:
        disp: Field in voxels of the grid of the fixed scan, on that grid at any resolution.
        prealign: Map that follows it, in voxels of the same resolution.
        grids: Grids that the fixed and the moving scan were put on.
        fixed: Grid of the fixed scan.

    Returns:
        The whole transform; the affine map of headers, centres and prealignment; and the field,
        which a fixed position passes through before that map.
    """
    fixed_grid, moving_grid = grids
    full = resize_field(disp, fixed_grid.shape)[0].numpy()
    place = fixed_grid.place
    deformable = displacement_map(full, place, place.affine)
    matrix = np.eye(4)
    resized = resize_affine(prealign, disp.shape[2:], fixed_grid.shape)
    matrix[:3] = resized[0].double().numpy()
    initial = AffineMap(moving_grid.place.affine @ matrix @ np.linalg.inv(place.affine))
    disp_mm = np.empty((3, *fixed.shape))
    for i, voxels in fixed.planes():
        points = voxels_to_world(fixed.place.affine, voxels)
        moved = initial(points + deformable.displacement(points))
        disp_mm[:, i] = (moved - points).astype(np.float32).reshape(disp_mm[:, i].shape)
    return DisplacementMap(disp_mm, fixed.place), initial, deformable


def write_pair(
    predictor: Predictor,
    reader: OwnPairReader,
    row: OwnRow,
    pair: Pair,
    files: RegistrationFiles,
    method: Mapping[str, Any],
) -> Registration:
    """Register a pair, and write what ``l2reg register`` writes.

    Args:
        predictor: The method, and readers of the pair.
        reader: Reader of the grids that the predictor's field is for.
        row: The pair's row of the table.
        pair: The pair.
        files: Where to.
        method: What the report says about the method.

    Raises:
        InputError: If a file is faulty, an output would replace it, or the scans hardly overlap
            where they start.
    """
    begin = time.perf_counter()
    settings = build(load_preset("register", "default"))
    fixed, moving = (scan.files for scan in row.scans)
    scans = _read(fixed, moving, files, settings["intensity"])
    annotations = read_annotations(fixed, moving)
    batches = predictor.read(pair)
    disp = predictor.method.solve(batches).cpu()
    batch = first_channel(to_device(batches[-1], CPU))
    i, j, k = batch["fixed"].shape[2:]
    disp = resize_field(disp, (i, j, k))
    grids = reader.full_grids(pair)
    field, initial, deformable = own_transform(disp, batch["prealign"], grids, annotations.grids[0])
    transform = WorldTransform((field,))
    start = Start(_voxels(initial, scans))
    regions = overlap_regions(scans.views, start)
    check_overlap(scans.paths, shared_fraction(scans.views, regions))
    total = torch.from_numpy(transform.voxel_field(field.grid, scans.moving.affine))[None]
    batch = {**batch, "overlap": batch["fixed_mask"] * batch["moving_mask"]}
    verdict = _judge(scans, Outcome(start, total, disp, batch, _NO_LIMIT), settings)
    scores = annotations.scores(transform)
    verdict = replace(verdict, flags=(*verdict.flags, *score_flags(scores)))
    files.report.unlink(missing_ok=True)  # a report stands for files that are all written
    write_scans(files, field, scans.moving, annotations.grids[1])
    write_stages(files, initial, deformable)
    warped = warp_with_fill(batch["moving"], disp, 0.0)
    picture = registered_pair(batch, disp, warped)
    draw_picture(files.picture, picture, row.name)
    write_report(files.report, {
        "l2reg": __version__,
        "inputs": _describe((fixed, moving)),
        "method": dict(method),
        "modalities": scans.modalities,
        "initial_map": {"matrix_ras_mm": initial.matrix.tolist()},
        "scores": {name: asdict(each) for name, each in scores.items()},
        "verdict": asdict(verdict),
        "seconds": time.perf_counter() - begin,
    })  # fmt: skip
    between = TransformScans(field.grid, annotations.grids[1])
    drawn = working_image_grid(grids[0], (i, j, k))
    return Registration(
        moving.image, between, transform, verdict, scores, {}, picture, drawn, files
    )


def _read(
    fixed: ScanFiles, moving: ScanFiles, files: RegistrationFiles, presets: Mapping[str, Any]
) -> ScanPair:
    check_outputs([path for scan in (fixed, moving) for path in scan.paths], files.paths)
    masks = (fixed.mask, moving.mask)
    return read_scans((fixed.image, moving.image), _ANY_CONTRAST, presets, masks)


def _voxels(initial: AffineMap, scans: ScanPair) -> Affine:
    """Return a map of the world as a map from fixed to moving voxels."""
    matrix = voxel_map(initial.matrix @ scans.fixed.affine, scans.moving.affine)
    return torch.from_numpy(matrix)[None, :3].float()


def _judge(scans: ScanPair, outcome: Outcome, settings: Mapping[str, Any]) -> Verdict:
    images = scans.normalise(scans.views)
    max_size = settings["initial_map"].max_size
    small = shrink_scans(images, scans.masks, scans.header_map, scans.spacing_mm, max_size)
    verdict: Verdict = settings["judge"](small, outcome, same_contrast=False)
    return replace(verdict, flags=(*scans.flags, *verdict.flags))


def _describe(scans: Sequence[ScanFiles]) -> dict[str, Any]:
    """Return the files of a pair and their digests."""
    named: dict[str, Any] = {
        side: {name: None if value is None else str(value) for name, value in vars(each).items()}
        for side, each in zip(("fixed", "moving"), scans, strict=True)
    }
    paths = [path for each in scans for path in each.paths]
    return named | {"sha256": {str(path): input_digest(path) for path in paths}}
