"""Headers that do not say where a scan lies."""

from pathlib import Path

from l2reg.problems import Problem


def no_position(path: Path) -> Problem:
    """Return that an Analyze file does not say where it lies."""
    return Problem(
        where=str(path),
        what="is an Analyze file, whose header states no position and no orientation",
        expected="a NIfTI volume (.nii.gz, or .hdr and .img)",
        found="an Analyze header",
        remedy="convert it to NIfTI with a tool that knows where it comes from, and look whether "
        "left and right are as they should be",
    )


def opposite_forms(path: Path) -> Problem:
    """Return that both forms of a header differ by the direction of axes.

    ITK takes one of them for some orientations and the other for others: findings/.
    """
    return Problem(
        where=str(path),
        what="has a qform and an sform whose axes run in opposite directions from one origin; ITK "
        "takes either, by the orientation of the scan",
        expected="two forms that agree",
        found="the same axes but for their direction",
        remedy="find out which form is right, and write it as both: in nibabel "
        "image.set_qform(affine, code=1) and image.set_sform(affine, code=1)",
    )
