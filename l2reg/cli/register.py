"""``l2reg register``: register one scan to another, or the pairs of a table; any files."""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from l2reg.cli.datasets import add_device_argument
from l2reg.cli.warp import add_volume_argument

if TYPE_CHECKING:
    from l2reg.registration.scan_files import ScanFiles

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
        default="abdomen",
        help="abdomen: any two scans (default); lung: two CT; brain or oasis: two MR of one "
        "sequence; auto: what the scans show, which is said",
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
        help="start from this affine map, from fixed to moving positions, such as ANTs' "
        "0GenericAffine.mat, greedy:a.mat, fsl:a.mat or an .lta; nothing is searched",
    )
    add_volume_argument(parser)
    for side in ("fixed", "moving"):
        parser.add_argument(f"--{side}-mask", type=Path, help="not 0 where it may be compared")
        parser.add_argument(f"--{side}-labels", type=Path, help="scored before and after, not used")
        parser.add_argument(
            f"--{side}-points", type=Path, help="CSV of landmarks; scored, not used"
        )
    parser.add_argument(
        "--coordinates",
        choices=("ras", "lps", "voxels"),
        help="of the landmarks, see `l2reg warp --help`",
    )
    parser.add_argument(
        "--save",
        type=extra_names,
        default=(),
        metavar="NAMES",
        help="inverse, jacobian, initial, deformable (separated by commas): the transform from "
        "moving to fixed, the local change of volume, the map at the start, the field before it",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="exit with status 3 if anything suggests that the result is wrong",
    )
    add_device_argument(parser)


def extra_names(text: str) -> tuple[str, ...]:
    """Return the names of extra files."""
    names, known = tuple(text.split(",")), ("inverse", "jacobian", "initial", "deformable")
    if unknown := sorted(set(names) - set(known)):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; {', '.join(known)} exist")
    return names


def scan_files(options: argparse.Namespace, side: str) -> "ScanFiles":
    """Return the files of the fixed or the moving scan."""
    from l2reg.registration.scan_files import ScanFiles
    from l2reg.registration.warp_files import check_coordinates

    kinds = ("mask", "labels", "points")
    others = {kind: getattr(options, f"{side}_{kind}") for kind in kinds}
    if others["points"] is not None:
        others["coordinates"] = check_coordinates(options.coordinates)
    return ScanFiles(image=getattr(options, side), volume=options.volume, **others)


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
    of_pair += [f"{side}_{kind}" for side in of_pair[:2] for kind in ("mask", "labels", "points")]
    given = [name for name in of_pair if getattr(options, name) is not None]
    if options.batch and given:
        found, remedy = given[0], f"leave it out: {given[0]} is a column of the table"
    elif not options.batch and not (options.fixed and options.moving):
        found, remedy = f"{len(given[:1])} scans", "l2reg register FIXED MOVING --out DIR"
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
    from l2reg.registration.register_table import RESULTS, TableOptions, register_table

    rows = read_pair_table(options.batch, options.coordinates, options.volume)
    shared = TableOptions(options.like, options.device, options.prealign, options.save)
    summary = register_table(rows, options.batch, options.out, shared, resume=options.resume)
    print(f"{options.out / RESULTS}: {summary}")
    if summary.failed:
        sys.exit(1)
    if options.strict and summary.flagged:
        sys.exit(FLAGGED)


def run_pair(options: argparse.Namespace) -> None:
    """Register two scans."""
    from l2reg.registration.annotations import score_lines
    from l2reg.registration.register import register

    begin = time.perf_counter()
    result = register(
        scan_files(options, "fixed"),
        scan_files(options, "moving"),
        options.out,
        preset=options.like,
        device=options.device,
        prealign=options.prealign,
        initial=options.initial,
        save=options.save,
    )
    assert result.files is not None
    for path in result.files.paths:
        print(path)
    for line in score_lines(result.scores):
        print(line)
    print(result.verdict)
    for flag in result.verdict.flags:
        print(f"!!! {flag}")
    print(f"{time.perf_counter() - begin:.1f} s")
    if options.strict and result.verdict.flags:
        sys.exit(FLAGGED)
