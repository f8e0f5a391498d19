"""Header geometry: the place of a file in the world, as ITK, ANTs, greedy and 3D Slicer see it.

A NIfTI header may state a position twice: the qform is a rotation (a quaternion) and an origin, the
sform a matrix, and each has a code that is above 0 where the form is valid. nibabel takes the sform
whenever it is valid. ITK, which writes and reads transforms in millimetres, often takes the qform.
This is the only module that chooses between them; its rules are those of ITK 5.4
(``itkNiftiImageIO.cxx``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float
from nibabel.analyze import AnalyzeHeader
from nibabel.nifti1 import Nifti1Header
from nibabel.spatialimages import SpatialHeader, SpatialImage
from tqdm import tqdm

from l2reg.io.header_problems import no_position, opposite_forms
from l2reg.problems import InputError, Problem

_UNITS = {1: ("metres", 1e3), 3: ("micrometres", 1e-3)}  # NIfTI codes; all others mean millimetres
_LENGTH = 7  # bits of xyzt_units for lengths; the others are for times
_FORMS = [
    *("qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("sform_code", "srow_x", "srow_y", "srow_z"),
]
_SHEAR = 1e-4  # cosine of an angle between two axes from which ITK refuses an sform
_SAME = 1e-4  # mm between two origins that ITK takes for one
_TOLD = 0.1  # voxels between two places of a corner from which a disagreement is told
_ITK = "ITK, ANTs and 3D Slicer"


@dataclass(frozen=True)
class Placement:
    """Place of a scan in the world.

    Attributes:
        affine: Map from voxels to RAS mm.
        header: Header that it was read from, as it is in the file; none for a place that no NIfTI
            file states.
    """

    affine: Float[np.ndarray, "4 4"]
    header: Nifti1Header | None = None

    @property
    def is_stated(self) -> bool:
        """Whether the header states it; else voxel axes are guessed to run as most do."""
        if self.header is None:
            return True
        return int(self.header["qform_code"]) > 0 or int(self.header["sform_code"]) > 0


def set_place(header: Nifti1Header, place: Placement) -> None:
    """Write a place into a header.

    The forms, their codes and the unit are those of the header that the place was read from; all
    readers, whichever form they take, then see both files at the same place, and ITK subtracts
    them, for which their origins must agree to a millionth of a voxel. A place without a header is
    written as equal qform and sform of code 1, in mm.
    """
    source = place.header
    if source is None:
        header.set_qform(place.affine, code=1)
        header.set_sform(place.affine, code=1)
        header.set_xyzt_units("mm")
        return
    for field in _FORMS:
        header[field] = source[field]
    header["pixdim"][:4] = source["pixdim"][:4]
    header["xyzt_units"] = int(source["xyzt_units"]) & _LENGTH


def unit_in_mm(header: SpatialHeader) -> float:
    """Return the unit of lengths in a header, in mm; a header that names none is in mm."""
    return _unit(header)[1]


def placement(image: SpatialImage, path: Path) -> Placement:
    """Return where a file lies, as ITK sees it; of other formats than NIfTI, as nibabel does.

    The sform counts if its axes are perpendicular and its code is 1 or the qform has none; else the
    qform. Without either, voxel 0 lies at the origin and the axes point left, posterior and
    superior. Voxel sizes are those of ``pixdim``; a negative one turns its axis round. One line is
    printed if the header states a position and nibabel places a corner of the grid more than a
    tenth of a voxel away.

    Args:
        image: The file, opened; its voxels are not read.
        path: Its path, for messages.

    Raises:
        InputError: If the sform is sheared or cannot be inverted and there is no valid qform, axes
            of both forms run in opposite directions from one origin, a voxel size is not finite, or
            the file is of Analyze format, which states no position.
    """
    seen = np.asarray(image.affine, dtype=np.float64)
    if not isinstance(image.header, Nifti1Header):
        if isinstance(image.header, AnalyzeHeader):
            raise InputError(no_position(path))
        return Placement(_valid(seen, path))
    header = _header_in_file(image, type(image.header))
    form, reason = _choose_form(header, path)
    other = "the sform"
    name, unit = _unit(header)
    sizes = _voxel_sizes(header, path)
    affine = np.diag([unit, unit, unit, 1.0]) @ _scale_columns(_valid(form, path), sizes)
    if sizes.min() < 0:
        reason, other = "pixdim is negative", "nibabel, which ignores the sign,"
    if name:
        reason, other = f"the header is in {name}", "nibabel, which ignores the unit,"
    moved, corner = _apart(affine, seen, image.shape)
    if reason and moved > _TOLD:
        voxel = f"voxel {corner}" if any(corner) else "voxel 0"
        here, there = (_point(matrix, corner) for matrix in (affine, seen))
        _tell(
            f"{path}: {reason}: {_ITK} place {voxel} at {here} mm, {other} at {there}; "
            "the former is used"
        )
    return Placement(affine, header)


def _header_in_file(image: SpatialImage, kind: type[Nifti1Header]) -> Nifti1Header:
    """Return the header as it is in the file; nibabel mends the signs of ``pixdim`` as it opens it.

    ITK turns an axis round whose voxel size is negative.
    """
    holder = image.file_map.get("header", image.file_map["image"])
    if holder.filename is None and holder.fileobj is None:  # an image in memory
        assert isinstance(image.header, kind)
        return image.header
    with holder.get_prepare_fileobj("rb") as stream:
        header: Nifti1Header = kind.from_fileobj(stream, check=False)
    return header


def _voxel_sizes(header: Nifti1Header, path: Path) -> Float[np.ndarray, " 3"]:
    """Return the voxel sizes of ``pixdim``; 0 means 1, as in the NIfTI library."""
    sizes = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    if not np.isfinite(sizes).all():
        raise InputError(
            Problem(
                where=str(path),
                what="has an invalid voxel size in its header",
                expected="three finite numbers in pixdim",
                found=", ".join(f"{size:g}" for size in sizes),
                remedy="write the voxel sizes again, or convert the scan from DICOM again",
            )
        )
    return np.where(sizes == 0, 1.0, sizes)


def _choose_form(header: Nifti1Header, path: Path) -> tuple[Float[np.ndarray, "4 4"], str]:
    """Return the form that ITK takes, and how nibabel may come to another place.

    The lengths of its columns are those of ``pixdim`` only in a sound sform.
    """
    has_qform, has_sform = (int(header[f"{form}form_code"]) > 0 for form in "qs")
    if not has_sform:  # so that nibabel takes the qform, too
        return (_qform(header) if has_qform else np.diag([-1.0, -1.0, 1.0, 1.0])), ""
    sform = np.array([*(header[f"srow_{axis}"] for axis in "xyz"), (0, 0, 0, 1)], np.float64)
    if _cosine(sform) > _SHEAR:
        if not has_qform:
            raise InputError(_refusal(sform, path))
        return _qform(header), "the sform is sheared or cannot be inverted"
    if has_qform and int(header["sform_code"]) != 1:
        qform = _qform(header)
        if _have_opposite_axes(sform, qform):
            raise InputError(opposite_forms(path))
        return qform, "qform and sform disagree"
    return sform, "pixdim and sform disagree on the voxel size"


def _have_opposite_axes(sform: np.ndarray, qform: np.ndarray) -> bool:
    """Return whether two forms differ by the direction of axes alone."""
    unit = [form[:3, :3] / np.linalg.norm(form[:3, :3], axis=0) for form in (sform, qform)]
    cosines = (unit[0] * unit[1]).sum(axis=0)
    same_origin = np.allclose(sform[:3, 3], qform[:3, 3], rtol=0, atol=_SAME)
    return bool(same_origin and (np.abs(cosines) > 1 - 1e-4).all() and cosines.min() < 0)


def _unit(header: SpatialHeader) -> tuple[str, float]:
    """Return the name of a unit other than millimetres, and the unit in mm."""
    if not isinstance(header, Nifti1Header):
        return "", 1.0
    return _UNITS.get(int(header["xyzt_units"]) & _LENGTH, ("", 1.0))


def _qform(header: Nifti1Header) -> Float[np.ndarray, "4 4"]:
    """Return the qform with voxels of size 1, computed as in the NIfTI library that ITK uses.

    nibabel's differs by up to 3e-4 radians for rotations by nearly 180 degrees.
    """
    b, c, d = (float(header[f"quatern_{axis}"]) for axis in "bcd")
    squared = 1.0 - (b * b + c * c + d * d)
    a = np.sqrt(max(squared, 0.0))
    if squared < 1e-7:
        b, c, d = np.array([b, c, d]) / np.linalg.norm([b, c, d])
        a = 0.0
    form = np.eye(4)
    form[:3, :3] = [
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ]
    form[:3, 2] *= -1.0 if header["pixdim"][0] < 0 else 1.0
    form[:3, 3] = [float(header[f"qoffset_{axis}"]) for axis in "xyz"]
    return form


def _scale_columns(form: np.ndarray, sizes: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "4 4"]:
    """Return a form with columns of the given lengths; it is kept where they have them."""
    lengths = np.linalg.norm(form[:3, :3], axis=0)
    if np.allclose(lengths, sizes, rtol=2e-7, atol=0):
        return form
    scaled = form.copy()
    scaled[:3, :3] *= sizes / lengths
    return scaled


def _cosine(form: np.ndarray) -> float:
    """Return how far the axes are from perpendicular: 0 if they are, infinity if one is missing."""
    lengths = np.linalg.norm(form[:3, :3], axis=0)
    if not np.isfinite(form).all() or not lengths.all():
        return float("inf")
    unit = form[:3, :3] / lengths
    # ITK tests the rows of the matrix, which are perpendicular where the columns are
    return float(np.abs(unit @ unit.T - np.eye(3)).max())


def _valid(affine: np.ndarray, path: Path) -> Float[np.ndarray, "4 4"]:
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    # The determinant over this product is 1 for orthogonal axes and 0 where axes coincide
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) <= 1e-6 * sizes.prod():
        rows = "; ".join(" ".join(f"{value:.4g}" for value in row) for row in affine[:3])
        raise InputError(
            Problem(
                where=str(path),
                what="has an invalid affine in its header",
                expected="an affine whose three axes are independent and longer than 0 mm",
                found=f"the rows {rows}",
                remedy="write the sform or qform again, or convert the scan from DICOM again",
            )
        )
    return affine


def _refusal(sform: np.ndarray, path: Path) -> Problem:
    columns = _valid(sform, path)[:3, :3]
    unit = columns / np.linalg.norm(columns, axis=0)
    first, second = max(
        [(0, 1), (0, 2), (1, 2)], key=lambda two: abs(unit[:, two[0]] @ unit[:, two[1]])
    )
    angle = np.degrees(np.arccos(np.clip(unit[:, first] @ unit[:, second], -1, 1)))
    return Problem(
        where=str(path),
        what=f"has a sheared sform and no qform: {_ITK} cannot read it",
        expected="three axes at right angles in the sform, or a valid qform beside it",
        found=f"{angle:.4g} degrees between the axes {'ijk'[first]} and {'ijk'[second]}, "
        "qform_code 0",
        remedy="resample the scan to a grid without shear, or write a qform with code 1",
    )


def _apart(
    affine: np.ndarray, other: np.ndarray, shape: Sequence[int]
) -> tuple[float, tuple[int, ...]]:
    """Return how far apart two affine maps place a corner, in voxels, and that corner.

    The corner is voxel 0 if that one tells of it, else the corner with the greatest distance.
    """
    if not np.isfinite(other).all():
        return float("inf"), (0, 0, 0)
    last = np.array([*shape, 1, 1, 1][:3]) - 1
    corners = np.indices((2, 2, 2)).reshape(3, 8) * last[:, None]
    homogeneous = np.vstack([corners, np.ones(8)])
    moved = np.linalg.norm((np.linalg.inv(affine) @ other @ homogeneous - homogeneous)[:3], axis=0)
    worst = 0 if moved[0] > _TOLD else int(moved.argmax())
    return float(moved[worst]), tuple(int(index) for index in corners[:, worst])


def _point(affine: np.ndarray, voxel: Sequence[int]) -> str:
    point = affine[:3] @ [*voxel, 1]
    return f"({', '.join(f'{value:.6g}' for value in point)})"


@cache
def _tell(line: str) -> None:
    """Print a line once, however often the file is opened."""
    tqdm.write(line)
