"""Registration of two scans that belong to no data set, without training."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from tqdm import tqdm

from l2reg.batch import Batch, to_device
from l2reg.config.build import build
from l2reg.config.presets import load_preset
from l2reg.data.intensity import Intensity
from l2reg.geometry.affine import affine_after_field
from l2reg.geometry.resize import resize_field
from l2reg.geometry.warp import warp_with_fill
from l2reg.inference.method import Method
from l2reg.inference.prepare import training_free_method
from l2reg.io.files import ensure_writable
from l2reg.io.scan_source import ScanInput, input_digest
from l2reg.optimisation.convex import Convex
from l2reg.problems import raise_if_any
from l2reg.registration.annotations import read_annotations
from l2reg.registration.initial_file import read_initial
from l2reg.registration.initial_map import InitialMap, InitialMapSearch, Prealignment
from l2reg.registration.input_checks import check_field, check_overlap, overwrite_problems
from l2reg.registration.modality import Modality
from l2reg.registration.outputs import draw_picture, registered_pair, write_report
from l2reg.registration.preset_choice import preset_name
from l2reg.registration.result import (
    Extra,
    Registration,
    RegistrationFiles,
    output_files,
    write_scans,
    write_stages,
)
from l2reg.registration.scan_files import ScanFiles, as_scan_files
from l2reg.registration.scan_pair import ScanPair, read_scans
from l2reg.registration.small_scans import SmallScans, shrink_scans
from l2reg.registration.transform_reader import transform_path
from l2reg.registration.transform_scans import TransformScans
from l2reg.registration.verdict import Judge, Outcome, Verdict
from l2reg.registration.working_grid import on_grids, overlap_regions, working_batch
from l2reg.runtime import select_device
from l2reg.shapes import Affine, Shape3
from l2reg.transforms.world_transform import (
    AffineMap,
    DisplacementMap,
    WorldTransform,
    displacement_map,
)
from l2reg.version import __version__

_ANY_CONTRAST = "abdomen"  # preset for any two contrasts


def register(
    fixed: ScanInput | ScanFiles,
    moving: ScanInput | ScanFiles,
    out: str | Path | None = None,
    *,
    preset: str = _ANY_CONTRAST,
    device: str = "auto",
    prealign: Prealignment = "auto",
    initial: str | Path | None = None,
    save: Sequence[Extra] = (),
) -> Registration:
    """Register ``moving`` to ``fixed``; warped scan, transform, picture and report go to ``out``.

    The headers give the initial map, unless another one fits better. ``model=convex`` and
    ``refine=gauss_newton``, with the settings of a task, find the field; those for any two
    contrasts do so if it makes the scans less alike. Labels and landmarks are only scored.

    Args:
        fixed: A scan, see ``as_source``, or one with mask, labels and landmarks.
        moving: The same; its grid may differ from that of ``fixed``.
        out: Folder to write to; nothing is written by default.
        preset: Task whose settings are used: ``abdomen`` for two modalities, ``lung`` for two CT,
            ``oasis`` or ``brain`` for two MR of one sequence, ``auto`` for what they show.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        prealign: How the initial map is found, see ``InitialMapSearch``.
        initial: Affine transform from fixed to moving positions to start from, see
            ``read_transform``; nothing is searched then.
        save: Extra files: ``inverse``, the transform from moving to fixed positions, ``jacobian``,
            the local change of volume from fixed to moving, ``initial`` and ``deformable``, the two
            stages.

    Raises:
        InputError: Before anything is written, if a file is unreadable or does not belong to its
            scan, a header is sheared or invalid, a scan has fewer than 8 voxels along an axis or
            almost no contrast after the preset's normalisation, the scans hardly overlap after the
            initial map, an output would replace an input, or ``out`` cannot be written to; and if
            the field leads out of the moving scan, as happens for scans of different parts of the
            body.
    """
    begin = time.perf_counter()
    settings = build(load_preset("register", "default"))
    files = (as_scan_files(fixed), as_scan_files(moving))
    outputs = None if out is None else output_files(Path(out), save)
    given_map = None if initial is None else read_initial(initial, files, prealign)
    scans = _read_scans(files, outputs, initial, preset_name(preset), settings["intensity"])
    annotations = read_annotations(*files)
    method = training_free_method(scans.preset, select_device(device))

    small, start = _find_start(scans, settings["initial_map"], prealign, given_map)
    regions = overlap_regions(scans.views, start.matrix)
    shared = float(regions[0].sum() / scans.views[0].sum())
    inside = check_overlap(scans.paths, scans.volumes, start.matrix, shared)
    if outputs is not None:
        ensure_writable(outputs.report.parent)

    images = scans.normalise(regions)
    batch = working_batch(
        *images, start.matrix, scans.spacing_mm, settings["max_voxels"], overlap=regions[0]
    )
    pair = _Pair(small, batch, start.matrix, scans.shape)
    outcome, verdict = _register_suitably(pair, method, scans.preset, settings["judge"])
    verdict = replace(verdict, flags=(*scans.flags, *start.flags, *verdict.flags))
    check_field(scans.paths, outcome.total, scans.moving, inside)

    field = displacement_map(outcome.total[0].numpy(), scans.fixed.place, scans.moving.affine)
    transform = WorldTransform((field,))
    scores = annotations.scores(transform)
    warped = warp_with_fill(images[1], outcome.total, 0.0)
    picture = registered_pair(batch, outcome.disp, warped)
    if outputs is not None:
        outputs.report.unlink(missing_ok=True)  # a report stands for files that are all written
        write_scans(outputs, field, scans.moving, annotations.grids[1])
        write_stages(outputs, *_stages(scans, outcome))
        draw_picture(outputs.picture, picture, outputs.picture.absolute().parent.name)
        write_report(outputs.report, {
            "l2reg": __version__,
            "inputs": describe_inputs(files, preset, prealign, initial),
            "preset": scans.preset,
            "modalities": scans.modalities,
            "initial_map": asdict(start),
            "scores": {name: asdict(each) for name, each in scores.items()},
            "verdict": asdict(verdict),
            "seconds": time.perf_counter() - begin,
        })  # fmt: skip
    grids = TransformScans(field.grid, annotations.grids[1])
    return Registration(files[1].image, grids, transform, verdict, scores, picture, outputs)


def describe_inputs(
    files: tuple[ScanFiles, ScanFiles],
    preset: str,
    prealign: Prealignment,
    initial: str | Path | None,
) -> dict[str, Any]:
    """Return the files, their digests and the options of a registration, for its report."""
    scans = {
        side: {name: None if value is None else str(value) for name, value in vars(each).items()}
        for side, each in zip(("fixed", "moving"), files, strict=True)
    }
    paths = [path for each in files for path in each.paths]
    paths += [] if initial is None else [transform_path(initial)]
    return {
        **scans,
        "like": preset,
        "prealign": prealign,
        "initial": None if initial is None else str(initial),
        "sha256": {str(path): input_digest(path) for path in paths},
    }


def _read_scans(
    files: tuple[ScanFiles, ScanFiles],
    outputs: RegistrationFiles | None,
    initial: str | Path | None,
    preset: str,
    presets: Mapping[str, Mapping[Modality, Intensity]],
) -> ScanPair:
    """Read the images and masks; no output may replace any input."""
    written = [] if outputs is None else outputs.paths
    sources, masks = (files[0].image, files[1].image), (files[0].mask, files[1].mask)
    others = {path for each in files for path in each.paths} - {each.path for each in sources}
    if initial is not None:
        others.add(transform_path(initial))
    raise_if_any(overwrite_problems(sorted(others), written))
    return read_scans(sources, written, preset, presets, masks)


def _find_start(
    scans: ScanPair, search: InitialMapSearch, prealign: Prealignment, given_map: Affine | None
) -> tuple[SmallScans, InitialMap]:
    """Return the scans at low resolution, and the map to start from, which is said."""
    images = scans.normalise(scans.views)
    small = shrink_scans(images, scans.masks, scans.header_map, scans.spacing_mm, search.max_size)
    if given_map is None:
        start = search(small, scans.header_map, prealign)
    else:
        start = search.from_file(small, scans.header_map, given_map)
    if start.source != "headers":
        tqdm.write(str(start))
    return small, start


def _stages(scans: ScanPair, outcome: Outcome) -> tuple[AffineMap, DisplacementMap]:
    """Return the initial map, and the field that fixed positions pass through before it."""
    place = scans.fixed.place
    voxels = np.vstack([outcome.initial[0].double().numpy(), [0, 0, 0, 1]])
    matrix = scans.moving.affine @ voxels @ np.linalg.inv(place.affine)
    disp = resize_field(outcome.disp, scans.shape)[0].numpy()
    return AffineMap(matrix), displacement_map(disp, place, place.affine)


@dataclass(frozen=True)
class _Pair:
    """Two scans that are ready to be registered.

    Attributes:
        small: The scans at low resolution.
        working: The pair on the working grid, after the initial map.
        initial: The initial map, from fixed to moving voxels.
        shape: Shape of the fixed scan.
    """

    small: SmallScans
    working: Batch
    initial: Affine
    shape: Shape3


def _register_suitably(
    pair: _Pair, method: Method, preset: str, judge: Judge
) -> tuple[Outcome, Verdict]:
    """Register a pair; with the method for any two contrasts if its own makes it less alike."""
    outcome = _solve(pair, method)
    verdict = judge(pair.small, outcome, same_contrast=preset != _ANY_CONTRAST)
    if not verdict.unsuited:
        return outcome, verdict
    other = _solve(pair, training_free_method(_ANY_CONTRAST, method.device))
    other_verdict = judge(pair.small, other, same_contrast=False)
    if other_verdict.similarity_after <= verdict.similarity_after:
        return outcome, verdict
    flag = f"--like {preset} made the scans less alike: --like {_ANY_CONTRAST} is used instead"
    return other, replace(other_verdict, flags=(flag, *other_verdict.flags))


def _solve(pair: _Pair, method: Method) -> Outcome:
    """Register a pair with a method."""
    batches = [to_device(b, method.device) for b in on_grids(pair.working, method.grids)]
    i, j, k = pair.working["fixed"].shape[2:]
    disp = resize_field(method.solve(batches), (i, j, k)).cpu()
    total = affine_after_field(pair.initial, resize_field(disp, pair.shape))
    spacing_mm = batches[0]["spacing_mm"][0].cpu()
    i_mm, j_mm, k_mm = (spacing_mm * cast(Convex, method.model).capture_range).tolist()
    return Outcome(pair.initial, total, disp, pair.working, (i_mm, j_mm, k_mm))
