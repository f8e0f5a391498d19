"""Submission fields: displacement fields in the form that the Learn2Reg evaluations read.

In 2021 a submitted field has **fewer samples, not smaller values**: it is sampled on a
corner-aligned grid of half the size and holds voxels of the full grid, float16, component first.
Later rules take the full grid, component last. Axis order, unit and direction are those of
``geometry.warp``, so that nothing else is converted.
"""

import gzip
import io
import zipfile
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from l2reg.data.pairs import Pair
from l2reg.data.task import Task
from l2reg.geometry.resize import resize_field
from l2reg.io.files import atomic_write
from l2reg.io.headers import Placement
from l2reg.io.nifti import array_from_bytes
from l2reg.io.volumes import write_volume
from l2reg.io.zips import MAX_MEMBER, open_zip, read_member
from l2reg.problems import InputError, Problem
from l2reg.shapes import Field, Shape3
from l2reg.submission.half_resolution import HalfField, fit_half_resolution, half_shape
from l2reg.wording import quantity

FullField = Float[np.ndarray, "3 i j k"]


def to_submission(disp: Field, shape: Shape3) -> list[HalfField]:
    """Return the fields of a batch in the form of the 2021 rules.

    Args:
        disp: Fields in voxels of their own grid. On the half grid their values, in voxels of the
            full grid, are the samples. From any other grid the samples are fitted so that the
            official up-sampling restores the fields best.
        shape: Shape of the task's full grid.
    """
    half = half_shape(shape)
    if disp.shape[2:] == half:
        ratio = [(n - 1) / (m - 1) for n, m in zip(shape, half, strict=True)]
        disp = disp * disp.new_tensor(ratio).view(3, 1, 1, 1)
    else:
        disp = fit_half_resolution(resize_field(disp, shape) if disp.shape[2:] != shape else disp)
    return list(disp.detach().cpu().numpy().astype(np.float16))


def file_name(pair_name: str) -> str:
    """Return the file name of a pair's field under the 2021 rules: ``disp_0438_0439.npz``."""
    return f"disp_{pair_name}.npz"


def full_file_name(pair: Pair, task: Task) -> str:
    """Return the file name of a pair's field under the current rules, with the release's ids.

    The current evaluation reads the short ``disp_0001_0001.nii.gz`` as fixed modality 0 and moving
    modality 1; scans of one modality need the long ``disp_0395_0000_0396_0000.nii.gz``.
    """
    if task.intra_patient:
        return f"disp_{pair.name_in_layout}.nii.gz"
    return f"disp_{pair.fixed.id:04}_0000_{pair.moving.id:04}_0000.nii.gz"


def write_full_field(folder: Path, name: str, full: Float[np.ndarray, "3 i j k"]) -> Path:
    """Write one field in the form of the current rules, and return its path.

    Args:
        folder: Folder of the file.
        name: Name of the file, from ``full_file_name``.
        full: Field on the full grid, in voxels of this grid.
    """
    path = folder / name
    voxels = np.moveaxis(full.astype(np.float32), 0, 3)
    write_volume(path, voxels, Placement(np.eye(4)))
    return path


def write_field(folder: Path, pair_name: str, field: HalfField) -> Path:
    """Write one field as the only array (``arr_0``) of an npz file, and return its path."""
    path = folder / file_name(pair_name)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, field)
    return path


def read_field(content: bytes, where: str, shape: Shape3) -> HalfField:
    """Read a field submitted under the 2021 rules, and refuse what the organisers would refuse.

    Args:
        content: Bytes of the npz file.
        where: Name of the file, for messages.
        shape: Shape of the task's full grid.

    Raises:
        InputError: If the file is not an npz file of exactly one float16 array of shape (3, half
            grid), or if the array has values that are not finite.
    """
    expected_shape = (3, *half_shape(shape))
    expected = f"one array, float16, of shape {expected_shape}"
    field: HalfField = only_array(content, where, expected)
    if field.dtype != np.float16 or field.shape != expected_shape:
        found = f"{field.dtype}, shape {field.shape}"
        raise _format_error(where, "has the wrong form", expected, found)
    check_finite(field, where)
    return field


def read_full_field(content: bytes, where: str, shape: Shape3) -> FullField:
    """Read a field submitted under the current rules: full grid, component last.

    Args:
        content: Bytes of a ``.nii.gz`` file, or of an npz file of one array.
        where: Name of the file, for messages; its suffix tells the format.
        shape: Shape of the task's full grid.

    Returns:
        The field, component first; float64 from NIfTI and float32 from npz, the precisions in which
        the organisers compute.

    Raises:
        InputError: If the file cannot be read, or if its array is not of shape (i, j, k, 3) or has
            values that are not finite.
    """
    expected = f"one array of shape {(*shape, 3)}"
    if where.endswith(".npz"):
        field = only_array(content, where, expected).astype(np.float32)
    else:
        field = nifti_array(content, where, expected)
    if field.shape != (*shape, 3):
        raise _format_error(where, "has the wrong form", expected, f"shape {field.shape}")
    check_finite(field, where)
    return np.ascontiguousarray(np.moveaxis(field, 3, 0))


def nifti_array(content: bytes, where: str, expected: str) -> np.ndarray:
    """Return the voxels of a ``.nii.gz`` file; raise ``InputError`` if it cannot be read."""
    try:
        with gzip.open(io.BytesIO(content)) as stream:
            unpacked = stream.read(MAX_MEMBER)
            if stream.read(1):
                raise ValueError(f"more than {MAX_MEMBER} bytes")
        return array_from_bytes(unpacked).astype(np.float64)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        found = str(error) or type(error).__name__
        raise _format_error(where, "cannot be read as .nii.gz", expected, found) from error


def only_array(content: bytes, where: str, expected: str) -> np.ndarray:
    """Return the only array of an npz file; raise ``InputError`` if it does not hold just one."""
    try:
        with open_zip(io.BytesIO(content)) as archive:
            names = archive.namelist()
            if len(names) == 1:
                return _array_from_npy(bytearray(read_member(archive, names[0])))
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        found = str(error) or type(error).__name__
        raise _format_error(where, "cannot be read as npz", expected, found) from error
    raise _format_error(where, "does not hold one array", expected, quantity(len(names), "array"))


def _array_from_npy(content: bytearray) -> np.ndarray:
    """Return the numbers of an npy file; its header may promise no more than there is.

    Raises:
        ValueError: If the file is damaged, or holds anything but real numbers.
    """
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, is_fortran, dtype = read_header(stream)
        order: Literal["F", "C"] = "F" if is_fortran else "C"
        if dtype.kind not in "biuf":
            raise ValueError(f"values of type {dtype}")
        return np.ndarray(shape, dtype, buffer=content, offset=stream.tell(), order=order)
    except Exception as error:  # of any kind: NumPy parses the header as Python
        raise ValueError(str(error) or type(error).__name__) from error


def check_finite(field: np.ndarray, where: str) -> None:
    """Raise ``InputError`` if a value is NaN or infinite."""
    if not np.isfinite(field).all():
        found = f"{quantity(int((~np.isfinite(field)).sum()), 'value')} of NaN or infinity"
        raise _format_error(where, "has values that are not numbers", "finite displacements", found)


def _format_error(where: str, what: str, expected: str, found: str) -> InputError:
    remedy = "write it with l2reg predict; docs/conventions.md shows the form"
    return InputError(
        Problem(where=where, what=what, expected=expected, found=found, remedy=remedy)
    )
