"""``l2reg warp``: take a scan, labels or points along a transform."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from l2reg.io.scan_source import ScanSource

DESCRIPTION = """\
take a scan, labels or points along a transform

A transform T answers: where in the moving scan lies what is here in the fixed scan? So the two go
opposite ways:

    points   fixed --T--> moving             a fixed landmark is taken into the moving scan
    scans    fixed <--looked up-- moving     a fixed voxel gets the intensity at T of its place

    l2reg warp T --image moving.nii.gz --reference fixed.nii.gz --out warped.nii.gz
    l2reg warp T --points fixed.csv --coordinates ras --out in_moving.csv
    l2reg warp T --inverse --points moving.csv --coordinates ras --out in_fixed.csv
    l2reg warp T --inverse --image fixed.nii.gz --reference moving.nii.gz --out on_moving.nii.gz

--reference is the scan whose positions are mapped, and on whose grid images and labels arrive.
Several transforms are passed by its positions in the order of the command line, as in
antsApplyTransforms and greedy -r; the scan is resampled once.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_transforms_argument(parser, "+")
    content = parser.add_mutually_exclusive_group(required=True)
    content.add_argument("--image", type=Path, help="scan to be resampled")
    content.add_argument("--labels", type=Path, help="label map to be resampled")
    content.add_argument("--points", type=Path, help="CSV; the first three columns of each row")
    parser.add_argument("--reference", type=Path, help="scan whose positions are mapped")
    add_volume_argument(parser)
    parser.add_argument(
        "--moving", type=Path, help="with --points in voxels: scan that the points are mapped to"
    )
    parser.add_argument("--inverse", action="store_true", help="use the inverse of all transforms")
    parser.add_argument(
        "--interpolation",
        choices=("linear", "cubic", "nearest", "label-linear"),
        help="of --image: linear (default) or cubic; of --labels: nearest (the nearest voxel, "
        "default) or label-linear (the label of the largest weight in linear interpolation; ANTs' "
        "GenericLabel): smoother, truer to thin layers, but thin tubes shrink",
    )
    parser.add_argument(
        "--coordinates",
        choices=("ras", "lps", "voxels"),
        help="of --points: mm to right, anterior, superior (NIfTI, 3D Slicer, FreeSurfer) or left, "
        "posterior, superior (ITK, ANTs, DICOM), or voxels counted from 0",
    )
    parser.add_argument("--out", type=Path, required=True, help="file to write")


def add_volume_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option that selects one of several volumes."""
    parser.add_argument(
        "--volume", type=int, metavar="N", help="of scans with several volumes, counted from 0"
    )


def scan_sources(volume: int | None, *paths: Path | None) -> "list[ScanSource | None]":
    """Return where scans come from that may have several volumes, for those that are named."""
    from l2reg.io.scan_source import ScanSource

    return [None if path is None else ScanSource(path, volume) for path in paths]


def add_transforms_argument(parser: argparse.ArgumentParser, number: str | None) -> None:
    """Add the argument of one or several transforms."""
    parser.add_argument(
        "transforms" if number else "transform",
        nargs=number,
        metavar="TRANSFORM",
        help="file, or FORM:FILE where its content does not tell: greedy:a.mat, fsl:a.mat; "
        "`l2reg convert --help` lists the forms",
    )


def run(options: argparse.Namespace) -> None:
    """Write the result, and print how much of it the transform and the scan cover."""
    from l2reg.io.scan_source import ScanSource
    from l2reg.io.volumes import write_image
    from l2reg.registration.bids_names import check_chain
    from l2reg.registration.transform_reader import transform_path
    from l2reg.registration.transform_scans import direction_warning, read_scans_of
    from l2reg.registration.warp_files import (
        check_coordinates,
        check_no_interpolation,
        check_output,
        label_interpolation,
        read_transforms,
        resample_labels,
        resample_scan,
        scan_interpolation,
        warp_point_file,
    )
    from l2reg.runtime import configure_malloc

    configure_malloc()
    source = options.image or options.labels or options.points
    if options.points:
        check_coordinates(options.coordinates)
        check_no_interpolation(options.interpolation)
    inputs = [path for path in (source, options.reference, options.moving) if path]
    suffixes = (".csv",) if options.points else (".nii.gz", ".nii")
    files = [transform_path(name) for name in options.transforms]
    check_output(options.out, [*inputs, *files], suffixes)
    moving = options.moving if options.points else source
    ends = (options.reference, moving)
    check_chain(files, *(reversed(ends) if options.inverse else ends))
    scans = read_scans_of(*scan_sources(options.volume, options.reference, moving))
    transform = read_transforms(options.transforms, scans, inverse=options.inverse)
    if warning := direction_warning(transform, scans):
        print(f"!!! {warning}")
    if options.points:
        inside = warp_point_file(source, options.out, transform, options.coordinates, scans)
        print(f"{options.out}: {100 * inside:.0f} % of the points lie where the transform is known")
        return
    scan, name = ScanSource(source, options.volume), options.interpolation
    if options.labels:
        image, inside = resample_labels(scan, transform, scans, label_interpolation(name))
    else:
        image, inside = resample_scan(scan, transform, scans, scan_interpolation(name))
    write_image(options.out, image)
    print(f"{options.out}: {100 * inside:.0f} % of the grid lies inside {source}")
