"""``l2reg convert``: write a transform in the form of another tool."""

import argparse
from pathlib import Path
from typing import Any

from l2reg.cli.warp import add_transforms_argument, add_volume_argument, scan_sources
from l2reg.registration.transform_forms import FORMS

BIDS = """\
BIDS names, such as sub-01_from-T1w_to-MNI_mode-image_xfm.h5, are read and may be written: images go
from T1w to MNI, so that MNI is the fixed scan. A name that contradicts the transform is refused.
"""
WRITTEN = [form for form in FORMS if form != "freesurfer"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_conversion_arguments(parser)
    add_form_argument(parser, required=True, help="form of the file; ants is itk")


def add_form_argument(parser: argparse.ArgumentParser, **settings: Any) -> None:
    """Add the option that names a form, in which ``ants`` is another name of ``itk``."""
    parser.add_argument(
        "--to", type=lambda name: "itk" if name == "ants" else name, choices=WRITTEN, **settings
    )


def add_conversion_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that ``l2reg invert`` has as well."""
    lines = [f"  {name:15} {what}" for name, what in FORMS.items()]
    parser.epilog = "\n".join(["forms:", *lines, "", BIDS])
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_transforms_argument(parser, None)
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    parser.add_argument(
        "--reference", type=Path, help="fixed scan; for forms in voxels, and for a field's grid"
    )
    parser.add_argument("--moving", type=Path, help="moving scan; for forms in voxels")
    add_volume_argument(parser)


def run(options: argparse.Namespace) -> None:
    """Write the file, and print how far what is read from it is from the original."""
    from l2reg.registration.bids_names import check_result
    from l2reg.registration.transform_conversion import convert_file
    from l2reg.registration.transform_reader import transform_path
    from l2reg.registration.transform_scans import read_scans_of
    from l2reg.runtime import configure_malloc

    configure_malloc()
    files = (transform_path(options.transform), options.out, options.reference, options.moving)
    spaces = check_result(*files, inverse=False)
    scans = read_scans_of(*scan_sources(options.volume, options.reference, options.moving))
    difference = convert_file(options.transform, options.out, options.to, scans)
    print(f"{options.out}: {spaces}" if spaces else options.out)
    print(f"difference from the original: {difference}")
