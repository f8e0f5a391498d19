"""``l2reg register``: register one scan to another, or the pairs of a table; any files."""

import argparse
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from l2reg.cli.datasets import add_device_argument
from l2reg.cli.warp import add_volume_argument

if TYPE_CHECKING:
    from l2reg.registration.options import RegisterOptions
    from l2reg.registration.scan_files import ScanFiles

_OF_SCAN = ("mask", "labels", "points", "channel")
FLAGGED = 3  # exit status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "fixed",
        type=Path,
        nargs="?",
        help="scan to register to: NIfTI, MetaImage, NRRD or a folder of a DICOM series",
    )
    parser.add_argument("moving", type=Path, nargs="?", help="scan to be warped")
    parser.add_argument(
        "--batch",
        type=Path,
        metavar="PAIRS.CSV",
        help="register the pairs of a table instead, each into a folder of --out; columns fixed, "
        "moving and, where known, name, initial, fixed_mask, fixed_labels, fixed_points, ...; "
        "writes results.csv",
    )
    parser.add_argument(
        "--resume", action="store_true", help="with --batch: leave out pairs that are complete"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument(
        "--like",
        choices=("abdomen", "lung", "brain", "oasis", "auto"),
        help="abdomen: any two scans (default, or the task of --ckpt); lung: two CT; brain or "
        "oasis: two MR of one sequence; auto: what the scans show, which is said",
    )
    parser.add_argument(
        "--prealign",
        choices=("auto", "none", "translation", "rigid", "affine"),
        default="auto",
        help="where to start: auto searches for a rigid map and keeps it if it fits clearly better "
        "than the headers (default); none follows the headers",
    )
    parser.add_argument(
        "--initial",
        metavar="TRANSFORM",
        help="start from this transform from fixed to moving positions, the direction of `l2reg "
        "warp`, such as ANTs' 0GenericAffine.mat or 1Warp.nii.gz, greedy:a.mat, an .lta, a "
        "composite .h5 or FSL's, SPM's and the challenge's fields; nothing is searched, and a "
        "field is refined",
    )
    parser.add_argument(
        "--ckpt",
        type=Path,
        metavar="RUN",
        help="run folder or checkpoint of a trained network, which predicts the field in place of "
        "the search; both scans are resampled to the grid that it was trained on",
    )
    parser.add_argument(
        "--trust",
        type=lambda text: tuple(text.split(",")),
        default=(),
        metavar="PACKAGES",
        help="packages of your own whose classes the checkpoint may name (separated by commas); "
        "their code is run",
    )
    parser.add_argument(
        "--no-refine",
        action="store_false",
        dest="refine",
        help="leave the field as it was searched, given by --initial, or predicted by --ckpt",
    )
    add_volume_argument(parser)
    for side in ("fixed", "moving"):
        parser.add_argument(
            f"--{side}-channel",
            type=Path,
            action="append",
            metavar="FILE",
            help="further channel of the scan, such as T2 beside T1 or CT beside PET; may be "
            "repeated, in the same order for both scans; a file of one volume",
        )
        parser.add_argument(f"--{side}-mask", type=Path, help="not 0 where it may be compared")
        parser.add_argument(f"--{side}-labels", type=Path, help="scored before and after, or used")
        parser.add_argument(f"--{side}-points", type=Path, help="CSV of landmarks; scored, or used")
    parser.add_argument(
        "--coordinates",
        choices=("ras", "lps", "voxels"),
        help="of the landmarks, see `l2reg warp --help`",
    )
    parser.add_argument(
        "--use",
        type=names_of("labels", "points"),
        default=(),
        metavar="NAMES",
        help="labels, points (separated by commas): they enter the registration as well as the "
        "scans, and are no score of it",
    )
    parser.add_argument(
        "--save",
        type=names_of("inverse", "jacobian", "initial", "deformable"),
        default=(),
        metavar="NAMES",
        help="inverse, jacobian, initial, deformable (separated by commas): the transform from "
        "moving to fixed, the local change of volume, the map at the start, the field before it",
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="write report.html besides: planes to scroll through, labels, landmarks, grid, folds; "
        "with --batch one for all pairs, the worst first, and one for each",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="exit with status 3 if anything suggests that the result is wrong",
    )
    add_device_argument(parser)


def names_of(*known: str) -> Callable[[str], tuple[str, ...]]:
    """Return a function that splits names at commas and refuses unknown ones."""

    def split(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        if unknown := sorted(set(names) - set(known)):
            listed = ", ".join(known)
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; {listed} exist")
        return names

    return split


def scan_files(options: argparse.Namespace, side: str) -> "ScanFiles":
    """Return the files of the fixed or the moving scan."""
    from l2reg.registration.scan_files import ScanFiles
    from l2reg.registration.warp_files import check_coordinates

    kinds = ("mask", "labels", "points")
    others = {kind: getattr(options, f"{side}_{kind}") for kind in kinds}
    if others["points"] is not None:
        others["coordinates"] = check_coordinates(options.coordinates)
    channels = getattr(options, f"{side}_channel") or ()
    return ScanFiles(getattr(options, side), volume=options.volume, channels=channels, **others)


def register_options(options: argparse.Namespace) -> "RegisterOptions":
    """Return what all pairs of scans share."""
    from l2reg.registration.options import RegisterOptions

    shared = ("device", "prealign", "initial", "ckpt", "trust", "refine", "use", "save")
    return RegisterOptions(preset=options.like, **{name: getattr(options, name) for name in shared})


def run(options: argparse.Namespace) -> None:
    """Register, and print the files written, the verdict and the runtime in seconds."""
    from l2reg.runtime import configure_malloc

    configure_malloc()
    check_combination(options)
    if options.batch:
        run_batch(options)
    else:
        run_pair(options)


def check_combination(options: argparse.Namespace) -> None:
    """Raise ``InputError`` unless two scans are named, or a table and nothing of a single pair."""
    from l2reg.problems import InputError, Problem

    of_pair = ["fixed", "moving", "initial"]
    of_pair += [f"{side}_{kind}" for side in of_pair[:2] for kind in _OF_SCAN]
    given = [name for name in of_pair if getattr(options, name) is not None]
    if options.batch and given:
        found, remedy = given[0], f"leave it out: {given[0]} is a column of the table"
    elif not options.batch and not (options.fixed and options.moving):
        found, remedy = "one scan" if given else "no scan", "l2reg register FIXED MOVING --out DIR"
    elif options.resume and not options.batch:
        found, remedy = "--resume without --batch", "leave out --resume"
    else:
        return
    raise InputError(
        Problem(
            where="l2reg register",
            what="does not know what to register",
            expected="FIXED MOVING, or --batch PAIRS.CSV",
            found=found,
            remedy=remedy,
        )
    )


def run_batch(options: argparse.Namespace) -> None:
    """Register the pairs of a table; exit with 1 if one failed."""
    from l2reg.registration.pair_table import read_pair_table
    from l2reg.registration.register_table import RESULTS, register_table
    from l2reg.registration.table_page import PAGE

    rows = read_pair_table(options.batch, options.coordinates, options.volume)
    details = {"command": command_line(), "model": method_name(options)} if options.report else None
    summary = register_table(
        rows, options.batch, options.out, register_options(options), resume=options.resume,
        details=details,
    )  # fmt: skip
    if details:
        print(options.out / PAGE)
    print(f"{options.out / RESULTS}: {summary}")
    if summary.failed:
        sys.exit(1)
    if options.strict and summary.flagged:
        sys.exit(FLAGGED)


def command_line() -> str:
    """Return the command that runs."""
    return shlex.join(["l2reg", *sys.argv[1:]])


def method_name(options: argparse.Namespace) -> str:
    """Return in words how the field is found."""
    start = f"network {options.ckpt}" if options.ckpt else "convex, nothing trained"
    if options.initial is not None and not options.ckpt:
        start = f"started from {options.initial}"
    return f"{start}; refined by gauss_newton" if options.refine else start


def run_pair(options: argparse.Namespace) -> None:
    """Register two scans."""
    from l2reg.registration.annotations import score_lines
    from l2reg.registration.register import register_with
    from l2reg.registration.result_page import write_result_page

    begin = time.perf_counter()
    files = (scan_files(options, "fixed"), scan_files(options, "moving"))
    result = register_with(*files, options.out, register_options(options))
    assert result.files is not None
    for path in result.files.paths:
        print(path)
    if options.report:
        page = options.out / "report.html"
        model = method_name(options)
        write_result_page(page, result, *files, command=command_line(), model=model)
        print(page)
    for line in score_lines(result.scores):
        print(line)
    for line in score_lines(result.fit):
        print(f"{line}; used, not a score")
    print(result.verdict)
    for flag in result.verdict.flags:
        print(f"!!! {flag}")
    print(f"{time.perf_counter() - begin:.1f} s")
    if options.strict and result.verdict.flags:
        sys.exit(FLAGGED)
