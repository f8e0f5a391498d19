"""``l2reg convert``: write a transform in the form of another tool."""

import argparse
from pathlib import Path

from l2reg.cli.warp import add_transforms_argument
from l2reg.registration.transform_forms import FORMS

WRITTEN = [form for form in FORMS if form != "freesurfer"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_conversion_arguments(parser)
    parser.add_argument("--to", choices=WRITTEN, required=True, help="form of the file")


def add_conversion_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that ``l2reg invert`` has as well."""
    lines = [f"  {name:15} {what}" for name, what in FORMS.items()]
    parser.epilog = "\n".join(["forms:", *lines])
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_transforms_argument(parser, None)
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    parser.add_argument(
        "--reference", type=Path, help="fixed scan; for forms in voxels, and for a field's grid"
    )
    parser.add_argument("--moving", type=Path, help="moving scan; for forms in voxels")


def run(options: argparse.Namespace) -> None:
    """Write the file, and print how far what is read from it is from the original."""
    from l2reg.registration.transform_conversion import convert_file
    from l2reg.registration.transform_scans import read_scans_of
    from l2reg.runtime import configure_malloc

    configure_malloc()
    scans = read_scans_of(options.reference, options.moving)
    difference = convert_file(options.transform, options.out, options.to, scans)
    print(options.out)
    print(f"difference from the original: {difference}")
