"""Image files: opened, and their voxels read, with errors that name the file and the remedy."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Shaped
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.openers import ImageOpener
from nibabel.spatialimages import HeaderDataError, SpatialImage
from nibabel.volumeutils import apply_read_scaling
from nibabel.wrapstruct import WrapStructError

from l2reg.io.files import is_system_error
from l2reg.io.itk import ITK_SUFFIXES, read_dicom_series, read_itk_image
from l2reg.io.voxel_types import VoxelType
from l2reg.problems import InputError, Problem
from l2reg.shapes import Shape3
from l2reg.wording import quantity

_UNREADABLE = (
    EOFError,
    OSError,
    zlib.error,
    gzip.BadGzipFile,
    ImageFileError,
    HeaderDataError,
    WrapStructError,
    OverflowError,
    ValueError,
)
_DICOM_REMEDY = "name the folder of its series, or convert it to NIfTI: dcm2niix -z y FOLDER"
_OTHER_FORMATS = (".mnc", ".gipl", ".vtk", ".tif", ".tiff")
_N_LOOKED_AT = 20  # files of a folder
_PIECE = 2**18  # bytes that are read at a time
_GZIP = b"\x1f\x8b"
_HEADER_SIZES = {struct.pack(order + "i", size) for order in "<>" for size in (348, 540)}

# A quaternion that was rounded may be longer than 1. ITK then normalises it, as headers.py does;
# nibabel refuses the file unless told how far that may go.
Nifti1Header.quaternion_threshold = np.float32(1e-3)
Nifti2Header.quaternion_threshold = np.float64(1e-3)


def open_image(path: Path) -> SpatialImage:
    """Open a volume; of NIfTI the voxels are not read. The path may be a DICOM folder.

    Raises:
        InputError: If the file is missing or no volume, or needs SimpleITK, which is not installed.
    """
    if path.is_dir():
        return _open_folder(path)
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
    if path.name.lower().endswith(ITK_SUFFIXES):
        return read_itk_image(path)
    try:
        image = nib.load(path)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    if not isinstance(image, SpatialImage):
        raise _unreadable(path, TypeError(f"a {type(image).__name__}"))
    return image


def volume_shape(image: SpatialImage, path: Path) -> Shape3:
    """Return the shape of a volume without trailing axes of length one, which some tools write.

    Raises:
        InputError: If the file is not three-dimensional.
    """
    shape: tuple[int, ...] = image.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise InputError(
            Problem(
                where=str(path),
                what="is not a 3D volume",
                expected="three axes",
                found=f"shape {image.shape}",
                remedy="of a scan, name one of the volumes, counted from 0: --volume 0 of "
                "register, warp, convert and invert; in a table the columns fixed_volume and "
                "moving_volume (volume, of single scans). A further channel, a mask or labels are "
                "a file of one volume, such as nibabel.load(FILE).slicer[..., 0] to be saved",
            )
        )
    i, j, k = shape
    return (int(i), int(j), int(k))


def read_voxels(image: SpatialImage, path: Path) -> Shaped[np.ndarray, "i j k"]:
    """Return the voxels, scaled as the header says, without trailing axes of length one.

    Raises:
        InputError: If the file is truncated or not three-dimensional, or a voxel is not one real
            number.
    """
    shape = volume_shape(image, path)
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
    return read_array(image, path).reshape(shape)


def read_array(image: SpatialImage, path: Path) -> Shaped[np.ndarray, "..."]:
    """Return the numbers of a file of any number of axes, scaled as the header says.

    Raises:
        InputError: If the file is truncated.
    """
    try:
        array = _scaled_voxels(image.dataobj)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    return array


def array_from_bytes(content: bytes) -> np.ndarray:
    """Return the voxels of a NIfTI file, scaled as its header says.

    Args:
        content: The bytes of the file, not compressed.

    Raises:
        ValueError: If they are no NIfTI file, are fewer than the header promises, or a voxel is not
            one real number.
    """
    try:
        proxy = nib.Nifti1Image.from_bytes(content).dataobj
        assert isinstance(proxy, ArrayProxy)
        if proxy.dtype.kind not in "biuf":
            raise ValueError(f"voxels of type {proxy.dtype}")
        return _scale(proxy, bytearray(content))
    except _UNREADABLE as error:
        raise ValueError(str(error) or type(error).__name__) from error


def _scaled_voxels(voxels: object) -> np.ndarray:
    """Return the voxels that an opened image stands for.

    nibabel would allocate what the header promises, and leave a checksum unread.
    """
    if type(voxels) is not ArrayProxy:  # a format with a scaling of its own
        return np.asanyarray(voxels)
    n_bytes, content = _end_of_voxels(voxels), bytearray()
    with ImageOpener(voxels.file_like) as stream:
        while piece := stream.read(min(_PIECE, n_bytes - len(content))):
            content += piece
        while stream.read(_PIECE):  # to the checksum at the end
            pass
    return _scale(voxels, content)


def _end_of_voxels(voxels: ArrayProxy) -> int:
    """Return the number of bytes from the start of the file to the last voxel."""
    n_voxels = math.prod(int(size) for size in voxels.shape)
    return int(voxels.offset) + n_voxels * int(voxels.dtype.itemsize)


def _scale(voxels: ArrayProxy, content: bytearray) -> np.ndarray:
    if len(content) < (n_bytes := _end_of_voxels(voxels)):
        raise EOFError(f"the header promises {quantity(n_bytes, 'byte')}, {len(content)} are there")
    array: np.ndarray = np.ndarray(
        voxels.shape, voxels.dtype, buffer=content, offset=int(voxels.offset), order="F"
    )
    scaled: np.ndarray = apply_read_scaling(array, voxels.slope, voxels.inter)
    return scaled


def voxel_type(image: SpatialImage) -> VoxelType:
    """Return how the file stores its voxels: data type, and of integers scale factor and offset."""
    dtype, voxels = image.get_data_dtype(), image.dataobj
    if isinstance(voxels, np.ndarray):
        return VoxelType(voxels.dtype)
    if dtype.kind == "f":
        return VoxelType(dtype)
    if type(voxels) is not ArrayProxy:  # a format with a scaling of its own
        return VoxelType(np.dtype(np.float32))
    return VoxelType(dtype, float(voxels.slope), float(voxels.inter))


def _unreadable(path: Path, error: Exception) -> Exception:
    """Return the error to raise: of the content, or the system's own (no permission)."""
    if is_system_error(error):
        return error
    size = path.stat().st_size
    return InputError(
        Problem(
            where=str(path),
            what="cannot be read",
            expected="a complete NIfTI volume",
            found=f"{quantity(size, 'byte')}; reading fails: {str(error) or type(error).__name__}",
            remedy=_remedy(path, error),
        )
    )


def _open_folder(path: Path) -> SpatialImage:
    files = sorted(file for file in path.iterdir() if file.is_file())
    volumes = [file.name for file in files if file.name.lower().endswith((".nii.gz", ".nii"))]
    if not volumes and any(map(_is_dicom, files[:_N_LOOKED_AT])):
        return read_dicom_series(path)
    raise InputError(
        Problem(
            where=str(path),
            what="is a folder",
            expected="a NIfTI volume (.nii.gz), or a folder of DICOM files",
            found=f"{quantity(len(files), 'file')}, {len(volumes)} of them NIfTI volumes",
            remedy=" such as ".join(["name a file", *(str(path / name) for name in volumes[:1])]),
        )
    )


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM" or path.suffix.lower() in (".dcm", ".ima")


def _remedy(path: Path, error: Exception) -> str:
    with path.open("rb") as stream:
        start = stream.read(4)
    name = path.name.lower()
    if _is_dicom(path):
        return _DICOM_REMEDY
    if name.endswith(_OTHER_FORMATS):
        return (
            "convert it to NIfTI, with SimpleITK: "
            f"sitk.WriteImage(sitk.ReadImage('{path.name}'), '{path.stem}.nii.gz')"
        )
    if start[:2] == _GZIP and not name.endswith("gz"):
        return f"it is compressed: rename it to {path.name}.gz"
    if start in _HEADER_SIZES and name.endswith(".gz"):
        return f"it is not compressed: rename it to {path.stem}"
    if "w2 should be" in str(error):
        return "the quaternion of its qform is longer than 1: write the qform again"
    return "it is truncated or not a NIfTI file: download or unpack it again"
