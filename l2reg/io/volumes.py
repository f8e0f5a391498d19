"""NIfTI volumes: scans, label maps and masks are read with checks and written atomically."""

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Float, Float32, Shaped
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, SpatialImage

from l2reg.io.files import atomic_write
from l2reg.io.headers import Placement, placement, unit_in_mm
from l2reg.problems import InputError, Problem
from l2reg.shapes import Shape3, Spacing

_UNREADABLE = (
    EOFError,
    OSError,
    zlib.error,
    gzip.BadGzipFile,
    ImageFileError,
    HeaderDataError,
    ValueError,
)
_UNIT_NAMES = {1.0: "mm", 1e3: "meter", 1e-3: "micron"}
_VECTOR = 1007  # NIfTI intent code of a vector per voxel


@dataclass(frozen=True)
class VolumeHeader:
    """Shape in voxels and voxel size in mm, along i, j, k."""

    shape: Shape3
    spacing_mm: Spacing


@dataclass(frozen=True)
class Volume:
    """Scan with its position in the world.

    Attributes:
        array: Intensities, with the header's scale factor and offset applied.
        affine: Map from voxels to RAS mm.
        mm_per_unit: Unit of the numbers in the header, in mm.
    """

    array: Float32[np.ndarray, "i j k"]
    affine: Float[np.ndarray, "4 4"]
    mm_per_unit: float = 1.0

    @property
    def spacing_mm(self) -> Spacing:
        """Voxel size in mm along i, j, k: the lengths of the affine's columns."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return (i, j, k)


def read_volume(path: Path) -> Volume:
    """Read a volume of real numbers and its affine; the file is opened once.

    Raises:
        InputError: If the file is missing or unreadable, is not three-dimensional, has voxels that
            are not finite real numbers, or an affine that is sheared or cannot be inverted.
    """
    image = _open(path)
    place = placement(image, path)
    return Volume(_finite(_array(image, path), path), place.affine, place.mm_per_unit)


def read_header(path: Path) -> VolumeHeader:
    """Return shape and voxel size in mm of a volume; only the header is read.

    Trailing axes of length one are dropped.

    Raises:
        InputError: If the file is missing, unreadable or not three-dimensional.
    """
    return _header(_open(path), path)


def read_affine(path: Path) -> Float[np.ndarray, "4 4"]:
    """Return the affine of a header: the map from voxels to RAS mm, as ITK sees it.

    Raises:
        InputError: See ``read_placement``.
    """
    return read_placement(path).affine


def read_placement(path: Path) -> Placement:
    """Return the affine of a header and the unit of its numbers; see ``headers.placement``.

    Raises:
        InputError: If the file is missing or unreadable, or the affine is sheared or cannot be
            inverted.
    """
    return placement(_open(path), path)


def read_image(path: Path) -> Float32[np.ndarray, "i j k"]:
    """Return the intensities of a scan, with the header's scale factor and offset applied.

    Raises:
        InputError: If the file is missing or unreadable, is not three-dimensional, or has voxels
            that are not finite real numbers.
    """
    return _finite(_array(_open(path), path), path)


def _finite(voxels: np.ndarray, path: Path) -> Float32[np.ndarray, "i j k"]:
    image = np.asarray(voxels, dtype=np.float32)
    if not np.isfinite(image).all():
        bad = ~np.isfinite(image)
        first = tuple(int(index) for index in np.argwhere(bad)[0])
        raise InputError(
            Problem(
                where=str(path),
                what="has voxels that are not numbers",
                expected="finite intensities",
                found=f"{int(bad.sum())} voxels are NaN or infinite, the first at {first}",
                remedy="replace them by the background value (-1000 HU in CT, 0 in MR)",
            )
        )
    return image


def read_labels(path: Path) -> Shaped[np.ndarray, "i j k"]:
    """Return a label map as int16.

    Raises:
        InputError: If the file is missing or unreadable, is not three-dimensional, or has values
            that are not integers of 16 bits.
    """
    values = _array(_open(path), path)
    fractional = values[values != np.floor(values)]  # NaN is among them
    if fractional.size:
        raise InputError(
            Problem(
                where=str(path),
                what="is not a label map",
                expected="integers",
                found=f"{fractional.size} voxels are not integers, such as {fractional[0]:.4g}",
                remedy="resample labels with nearest-neighbour interpolation",
            )
        )
    if values.min(initial=0) < -(2**15) or values.max(initial=0) >= 2**15:
        raise InputError(
            Problem(
                where=str(path),
                what="has labels that are out of range",
                expected="label values from 0 to 32767",
                found=f"values from {values.min()} to {values.max()}",
                remedy="renumber the labels as the task does",
            )
        )
    return values.astype(np.int16)


def read_mask(path: Path) -> Shaped[np.ndarray, "i j k"]:
    """Return a mask as booleans: True where the file is not zero.

    Raises:
        InputError: If the file is no label map (see ``read_labels``), or no voxel is inside.
    """
    mask: np.ndarray = read_labels(path) != 0
    if not mask.any():
        raise InputError(
            Problem(
                where=str(path),
                what="is an empty mask",
                expected="voxels other than 0 inside the region of interest",
                found="0 everywhere",
                remedy="create the mask again, or remove the file to work without a mask",
            )
        )
    return mask


def write_volume(
    path: Path,
    array: Shaped[np.ndarray, "..."],
    affine: Float[np.ndarray, "4 4"],
    *,
    mm_per_unit: float = 1.0,
    vectors: bool = False,
) -> None:
    """Write a NIfTI volume atomically, with equal qform and sform, both of code 1.

    Args:
        path: File to write, ``.nii.gz``.
        array: Voxel values, stored in their own data type.
        affine: Map from voxels to RAS mm, without shear.
        mm_per_unit: Unit of the numbers in the header, in mm: 1, 0.001 or 1000. In the unit of the
            fixed scan its float32 numbers are met to the last digit, which ITK demands of two
            images that are subtracted.
        vectors: Whether the last of five axes holds the components of a vector in mm. The header
            then has the intent code by which ITK recognises displacement fields.

    Raises:
        InputError: If the disk is full or the folder is not writable.
    """
    stored = np.diag([*(3 * [1 / mm_per_unit]), 1.0]) @ affine
    image = nib.Nifti1Image(array, stored)
    image.set_qform(stored, code=1)
    image.set_sform(stored, code=1)
    image.header.set_xyzt_units(_UNIT_NAMES[mm_per_unit])
    if vectors:
        image.header.set_intent(_VECTOR)
    with atomic_write(path) as temporary:
        nib.save(image, temporary)


def _open(path: Path) -> SpatialImage:
    if not path.is_file():
        raise InputError(
            Problem(
                where=str(path),
                what="is missing",
                expected="a NIfTI volume (.nii.gz)",
                found="no such file",
                remedy="check the path; `l2reg check` lists all missing files of a data set",
            )
        )
    try:
        image = nib.load(path)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    if not isinstance(image, SpatialImage):
        raise _unreadable(path, TypeError(f"a {type(image).__name__}"))
    return image


def _header(image: SpatialImage, path: Path) -> VolumeHeader:
    shape = _shape(image)
    if len(shape) != 3:
        raise InputError(
            Problem(
                where=str(path),
                what="is not a 3D volume",
                expected="three axes",
                found=f"shape {image.shape}",
                remedy="store one volume of one channel in a file",
            )
        )
    i, j, k = shape
    unit = unit_in_mm(image.header)
    di, dj, dk = (unit * float(size) for size in image.header.get_zooms()[:3])
    return VolumeHeader((int(i), int(j), int(k)), (di, dj, dk))


def _shape(image: SpatialImage) -> tuple[int, ...]:
    """Return the shape without axes of length one after the third, which some tools write."""
    shape: tuple[int, ...] = image.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _array(image: SpatialImage, path: Path) -> np.ndarray:
    """Return the voxels, scaled as the header says, without trailing axes of length one."""
    header = _header(image, path)
    dtype = image.get_data_dtype()
    if dtype.kind not in "biuf":
        kinds = {"V": "several channels (RGB)", "c": "complex numbers"}
        raise InputError(
            Problem(
                where=str(path),
                what="does not have one real number in each voxel",
                expected="integers or floats",
                found=kinds.get(dtype.kind, str(dtype)),
                remedy="store one channel, or the magnitude, as a separate volume",
            )
        )
    try:
        voxels: np.ndarray = np.asanyarray(image.dataobj)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    return voxels.reshape(header.shape)


def _unreadable(path: Path, error: Exception) -> InputError:
    size = path.stat().st_size
    return InputError(
        Problem(
            where=str(path),
            what="cannot be read",
            expected="a complete NIfTI volume",
            found=f"{size} bytes; reading them fails: {str(error) or type(error).__name__}",
            remedy="it is truncated or not a NIfTI file: download or unpack it again",
        )
    )
