"""Registration of two scans that belong to no data set, without training."""

from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import cast

from tqdm import tqdm

from l2reg.batch import Batch, to_device
from l2reg.config.build import build
from l2reg.config.presets import load_preset
from l2reg.geometry.affine import affine_after_field
from l2reg.geometry.resize import resize_field
from l2reg.geometry.warp import warp_with_fill
from l2reg.inference.method import Method
from l2reg.inference.prepare import training_free_method
from l2reg.io.files import ensure_writable
from l2reg.optimisation.convex import Convex
from l2reg.registration.initial_map import InitialMapSearch, Prealignment
from l2reg.registration.input_checks import check_field, check_overlap
from l2reg.registration.outputs import draw_picture, write_report
from l2reg.registration.scan_pair import read_scans
from l2reg.registration.small_scans import SmallScans, shrink_scans
from l2reg.registration.verdict import Judge, Outcome, Verdict
from l2reg.registration.working_grid import on_grids, overlap_regions, working_batch
from l2reg.runtime import select_device
from l2reg.shapes import Affine, Shape3
from l2reg.transforms.itk import write_warp
from l2reg.transforms.warped_scan import write_warped_scan
from l2reg.transforms.world_transform import displacement_map

_ANY_CONTRAST = "abdomen"  # preset for any two contrasts


@dataclass(frozen=True)
class Registration:
    """Files of a registration, and the verdict on it.

    Attributes:
        warped: The moving scan in its own intensities, on the grid of the fixed scan; outside of
            the moving scan its lowest intensity, or -1024 HU in CT.
        transform: The displacement field in the form of ITK and ANTs.
        picture: Slices of both scans before and after registration.
        report: Settings, initial map and verdict as JSON.
        verdict: The verdict.
    """

    warped: Path
    transform: Path
    picture: Path
    report: Path
    verdict: Verdict


def register(
    fixed: Path,
    moving: Path,
    out: Path,
    *,
    preset: str,
    device: str,
    prealign: Prealignment = "auto",
) -> Registration:
    """Register ``moving`` to ``fixed``; write the warped scan, transform, picture and report.

    The headers give the initial map, unless another one fits better. ``model=convex`` and
    ``refine=gauss_newton``, with the settings of a task, find the field; those for any two
    contrasts do so if it makes the scans less alike. Only the two images are read.

    Args:
        fixed: A NIfTI volume.
        moving: A NIfTI volume, whose grid may differ from that of ``fixed``.
        out: Folder to write to.
        preset: Task whose settings are used: ``abdomen`` for two modalities, ``lung`` for two CT,
            ``oasis`` for two MR of one sequence.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        prealign: How the initial map is found, see ``InitialMapSearch``.

    Raises:
        InputError: Before anything is written, if a file is unreadable, its header is sheared or
            invalid, a scan has fewer than 8 voxels along an axis or almost no contrast after the
            preset's normalisation, the scans hardly overlap after the initial map, an output would
            replace an input, or ``out`` cannot be written to; and if the field leads out of the
            moving scan, as happens for scans of different parts of the body.
    """
    settings = build(load_preset("register", "default"))
    names = ("warped.nii.gz", "transform.nii.gz", "picture.png", "registration.json")
    warped, transform, picture, report = files = [out / name for name in names]
    scans = read_scans((fixed, moving), files, preset, settings["intensity"])
    method = training_free_method(preset, select_device(device))

    images = scans.normalise(scans.views)
    search: InitialMapSearch = settings["initial_map"]
    small = shrink_scans(images, scans.masks, scans.header_map, scans.spacing_mm, search.max_size)
    initial = search(small, scans.header_map, prealign)
    if initial.source != "headers":
        tqdm.write(str(initial))
    regions = overlap_regions(scans.views, initial.matrix)
    shared = float(regions[0].sum() / scans.views[0].sum())
    inside = check_overlap(scans.paths, scans.volumes, initial.matrix, shared)
    ensure_writable(out)

    images = scans.normalise(regions)
    batch = working_batch(
        *images, initial.matrix, scans.spacing_mm, settings["max_voxels"], overlap=regions[0]
    )
    pair = _Pair(small, batch, initial.matrix, scans.shape)
    outcome, verdict = _register_suitably(pair, method, preset, settings["judge"])
    verdict = replace(verdict, flags=(*scans.flags, *initial.flags, *verdict.flags))
    check_field(scans.paths, outcome.total, scans.moving, inside)

    place, moving_scan = scans.fixed.place, scans.moving
    write_warped_scan(warped, moving_scan.array, moving_scan.voxel_type, outcome.total, place)
    write_warp(transform, displacement_map(outcome.total[0].numpy(), place, moving_scan.affine))
    draw_picture(picture, batch, outcome.disp, warp_with_fill(images[1], outcome.total, 0.0))
    write_report(report, {
        "l2reg": version("l2reg"),
        "fixed": {"file": fixed, "modality": scans.modalities[0]},
        "moving": {"file": moving, "modality": scans.modalities[1]},
        "like": preset,
        "prealign": prealign,
        "initial_map": asdict(initial),
        "verdict": asdict(verdict),
    })  # fmt: skip
    return Registration(warped, transform, picture, report, verdict)


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
