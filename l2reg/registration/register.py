"""Registration of two scans that belong to no data set, without training."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from l2reg.config.build import build
from l2reg.config.presets import load_preset
from l2reg.geometry.warp import warp_with_fill
from l2reg.inference.method import Method
from l2reg.io.scan_source import ScanInput
from l2reg.registration.annotations import read_annotations, score_flags
from l2reg.registration.channels import read_channels
from l2reg.registration.initial_file import read_initial
from l2reg.registration.initial_map import InitialMap, InitialMapSearch, Prealignment
from l2reg.registration.input_checks import (
    check_field,
    check_outputs,
    check_overlap,
    inside_fraction,
)
from l2reg.registration.network import default_preset, load_network
from l2reg.registration.options import RegisterOptions, check_values
from l2reg.registration.outputs import draw_picture, registered_pair, write_report
from l2reg.registration.preset_choice import preset_name
from l2reg.registration.progress import Stage, progress_bar
from l2reg.registration.result import (
    Extra,
    Registration,
    output_files,
    write_scans,
    write_stages,
)
from l2reg.registration.scan_files import ScanFiles, as_scan_files
from l2reg.registration.scan_pair import ScanPair, read_scans
from l2reg.registration.small_scans import SmallScans, shrink_scans
from l2reg.registration.solve import (
    StartedPair,
    compare_channels,
    register_suitably,
    select_method,
    suit_resolution,
)
from l2reg.registration.start import Start
from l2reg.registration.transform_scans import TransformScans
from l2reg.registration.used_annotations import Use, UsedAnnotations, split_by_use
from l2reg.registration.verdict import Judge, Outcome
from l2reg.registration.working_grid import overlap_regions, shared_fraction, working_batch
from l2reg.runtime import select_device
from l2reg.shapes import Image
from l2reg.transforms.pair_grid import working_image_grid
from l2reg.transforms.world_transform import (
    AffineMap,
    DisplacementMap,
    WorldTransform,
    displacement_map,
)
from l2reg.version import __version__


def register(  # noqa: PLR0913 - the options of the command
    fixed: ScanInput | ScanFiles,
    moving: ScanInput | ScanFiles,
    out: str | Path | None = None,
    *,
    preset: str | None = None,
    device: str = "auto",
    prealign: Prealignment = "auto",
    initial: str | Path | None = None,
    ckpt: str | Path | None = None,
    trust: Sequence[str] = (),
    refine: bool = True,
    use: Sequence[Use] = (),
    save: Sequence[Extra] = (),
) -> Registration:
    """Register ``moving`` to ``fixed``; warped scan, transform, picture and report go to ``out``.

    The headers give the initial map, unless another one fits better. ``model=convex`` and
    ``refine=gauss_newton``, with the settings of a task, find the field; those for any two
    contrasts do so if the scans are more alike by them. Labels and landmarks are scored, or used.
    The field is found by all channels; the start and the verdict are those of the first.

    Args:
        fixed: A scan, see ``as_source``, or one with mask, labels, landmarks and further channels.
        moving: The same; its grid may differ from that of ``fixed``.
        out: Folder to write to; nothing is written by default.
        preset: Task whose settings are used: ``abdomen`` for two modalities, ``lung`` for two CT,
            ``oasis`` or ``brain`` for two MR of one sequence, ``auto`` for what they show. By
            default that of the network, or ``abdomen``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        prealign: How the initial map is found, see ``InitialMapSearch``.
        initial: Transform from fixed to moving positions to start from, see ``read_transform``;
            nothing is searched then, and a displacement field is refined.
        ckpt: Run folder or checkpoint of a network, which takes the place of ``model=convex``.
        trust: Packages or modules of your own whose classes the checkpoint may name.
        refine: Whether the field that was searched, given or predicted is refined.
        use: ``labels``, ``points`` or both: they enter the refinement, and are no score of it.
        save: Extra files: ``inverse``, the transform from moving to fixed positions, ``jacobian``,
            the local change of volume from fixed to moving, ``initial`` and ``deformable``, the two
            stages.

    Raises:
        InputError: Before anything is written, if an option has a value that does not exist, a file
            is unreadable or does not belong to its scan, a header is sheared or invalid, a scan has
            fewer than 8 voxels along an axis or almost no contrast after the preset's
            normalisation, the scans hardly overlap after the initial map, an output would replace
            an input, or ``out`` cannot be written to; and if the field leads out of the moving
            scan, as happens for scans of different parts of the body.
    """
    check_values(prealign, use, save)
    options = RegisterOptions(
        preset=preset, device=device, prealign=prealign, initial=initial, ckpt=ckpt, trust=trust,
        refine=refine, use=use, save=save,
    )  # fmt: skip
    return register_with(fixed, moving, out, options)


def register_with(
    fixed: ScanInput | ScanFiles,
    moving: ScanInput | ScanFiles,
    out: str | Path | None,
    options: RegisterOptions,
) -> Registration:
    """Register two scans; as ``register``, with its options as one object."""
    begin = time.perf_counter()
    files = (as_scan_files(fixed), as_scan_files(moving))
    outputs = None if out is None else output_files(Path(out), options.save)
    if outputs is not None:
        check_outputs(options.input_paths(files), outputs.paths)
    with progress_bar() as begin_stage:
        begin_stage("reading scans")
        pair = _prepare(files, options, begin_stage)
        scans, grids = pair.scans, pair.annotations.scored.grids
        begin_stage("registering")
        outcome, verdict = register_suitably(pair.started, pair.method, scans.preset, pair.judge)
        check_field(scans.paths, outcome.total, scans.moving, pair.inside)

        begin_stage("writing")
        field = displacement_map(outcome.total[0].numpy(), scans.fixed.place, scans.moving.affine)
        transform = WorldTransform((field,))
        scores = pair.annotations.scored.scores(transform)
        fit = pair.annotations.used.scores(transform)
        flags = (*pair.flags, *verdict.flags, *score_flags(scores))
        verdict = replace(verdict, flags=flags)
        warped = warp_with_fill(pair.moving, outcome.total, 0.0)
        picture = registered_pair(pair.started.working, outcome.disp, warped)
        if outputs is not None:
            outputs.report.unlink(missing_ok=True)  # a report stands for files that are all written
            write_scans(outputs, field, scans.moving, grids[1])
            write_stages(outputs, *_stages(scans, outcome))
            draw_picture(outputs.picture, picture, outputs.picture.absolute().parent.name)
            write_report(outputs.report, {
                "l2reg": __version__,
                "inputs": options.describe(files),
                "preset": scans.preset,
                "modalities": scans.modalities,
                "initial_map": asdict(pair.found),
                "scores": {name: asdict(each) for name, each in scores.items()},
                "used, not a score": {name: asdict(each) for name, each in fit.items()},
                "verdict": asdict(verdict),
                "seconds": time.perf_counter() - begin,
            })  # fmt: skip
        between = TransformScans(field.grid, grids[1])
        i, j, k = picture.fixed.shape
        drawn = working_image_grid(field.grid, (i, j, k))
        return Registration(
            files[1].image, between, transform, verdict, scores, fit, picture, drawn, outputs
        )


@dataclass(frozen=True)
class _PreparedPair:
    """Two scans whose start is known, and how they are registered.

    Attributes:
        scans: The scans.
        annotations: Their labels and landmarks, by use.
        moving: The moving scan, intensities in [0, 1].
        found: The map of the start.
        started: The pair after the start.
        inside: Fraction of the fixed volume that the start places inside the moving volume.
        method: How it is registered.
        judge: What gives the verdict.
        flags: Warnings that are known before.
    """

    scans: ScanPair
    annotations: UsedAnnotations
    moving: Image
    found: InitialMap
    started: StartedPair
    inside: float
    method: Method
    judge: Judge
    flags: tuple[str, ...]


def _prepare(
    files: tuple[ScanFiles, ScanFiles],
    options: RegisterOptions,
    begin_stage: Callable[[Stage], None],
) -> _PreparedPair:
    """Read two scans and what is known about them, and find the start."""
    settings = build(load_preset("register", "default"))
    device = select_device(options.device)
    preset = None if options.preset is None else preset_name(options.preset)
    network = None
    if options.ckpt is not None:
        network = load_network(Path(options.ckpt), preset, device, options.trust)
        network.check_channels(files)
    initial = options.initial
    given_start = None if initial is None else read_initial(initial, files, options.prealign)
    sources, masks = (files[0].image, files[1].image), (files[0].mask, files[1].mask)
    scans = read_scans(sources, preset or default_preset(network), settings["intensity"], masks)
    scans = scans.with_channels(
        read_channels(files, scans.volumes, scans.preset, settings["intensity"])
    )
    given = read_annotations(*files)
    annotations = split_by_use(given, options.use, refine=options.refine)

    begin_stage("finding the start")
    search: InitialMapSearch = settings["initial_map"]
    small, found, start = _find_start(scans, search, options.prealign, given_start)
    regions = overlap_regions(scans.views, start)
    check_overlap(scans.paths, shared_fraction(scans.views, regions))

    images = scans.normalise_channels(regions)
    batch = working_batch(
        *images,
        start,
        scans.spacing_mm,
        settings["max_voxels"],
        overlap=regions[0],
        cross_modality=len(set(scans.modalities)) > 1,
    )
    i, j, k = batch["fixed"].shape[2:]
    batch |= annotations.batch(start, (i, j, k))
    flags, predicted = (*scans.flags, *found.flags, *given.flags()), None
    if network is not None:
        predicted = network.predict(scans, start, (i, j, k))
        flags = (*network.flags(scans), *flags)
    started = StartedPair(small, batch, start, scans.shape, predicted)
    method = select_method(scans.preset, device, start, refine=options.refine)
    method = suit_resolution(method, batch["spacing_mm"][0].tolist())
    method = compare_channels(method, scans.channels)
    if method.refinement is not None:
        refinement = annotations.add_to(method.refinement, settings["use"])
        method = replace(method, refinement=refinement)
    return _PreparedPair(
        scans,
        annotations,
        images[1][:, :1],
        found,
        started,
        inside_fraction(start.field(scans.shape), scans.moving),
        method,
        settings["judge"],
        flags,
    )


def _find_start(
    scans: ScanPair,
    search: InitialMapSearch,
    prealign: Prealignment,
    given_start: Start | None,
) -> tuple[SmallScans, InitialMap, Start]:
    """Return the scans at low resolution, and the start, which is said."""
    images = scans.normalise(scans.views)
    small = shrink_scans(images, scans.masks, scans.header_map, scans.spacing_mm, search.max_size)
    if given_start is None:
        found = search(small, scans.header_map, prealign)
    else:
        found = search.from_file(small, scans.header_map, given_start)
    if found.source != "headers":
        tqdm.write(str(found))
    return small, found, given_start or Start(found.matrix)


def _stages(scans: ScanPair, outcome: Outcome) -> tuple[AffineMap, DisplacementMap]:
    """Return the map of the start, and the field that fixed positions pass through before it."""
    place = scans.fixed.place
    voxels = np.vstack([outcome.start.matrix[0].double().numpy(), [0, 0, 0, 1]])
    matrix = scans.moving.affine @ voxels @ np.linalg.inv(place.affine)
    disp = outcome.start.beyond_map(outcome.total)[0].numpy()
    return AffineMap(matrix), displacement_map(disp, place, place.affine)
