"""``l2reg invert``: write the inverse of a transform."""

import argparse

from l2reg.cli.convert import add_conversion_arguments, add_form_argument
from l2reg.cli.warp import scan_sources


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_conversion_arguments(parser)
    add_form_argument(parser, default="itk", help="form of the file (itk, also called ants)")


def run(options: argparse.Namespace) -> None:
    """Write the inverse, and print how well it brings points back."""
    from l2reg.registration.bids_names import check_result
    from l2reg.registration.transform_conversion import invert_file
    from l2reg.registration.transform_reader import transform_path
    from l2reg.registration.transform_scans import read_scans_of
    from l2reg.runtime import configure_malloc

    configure_malloc()
    files = (transform_path(options.transform), options.out, options.reference, options.moving)
    spaces = check_result(*files, inverse=True)
    scans = read_scans_of(*scan_sources(options.volume, options.reference, options.moving))
    residual = invert_file(options.transform, options.out, options.to, scans)
    print(f"{options.out}: {spaces}" if spaces else options.out)
    print(f"residual of going there and back: {residual}")
