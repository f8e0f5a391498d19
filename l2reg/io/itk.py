"""Volumes of other formats than NIfTI, through SimpleITK: MetaImage, NRRD and DICOM series."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from nibabel.spatialimages import SpatialImage

from l2reg.problems import InputError, Problem
from l2reg.wording import quantity

ITK_SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MAX_APART = 0.5  # of the smallest spacing, between a slice and its place in an even stack
_MAX_WORD = 128  # characters of a word in a field of an NRRD header
_HEADER = 2**20  # bytes of an NRRD file that may be header
_POSITION = "0020|0032"  # DICOM tag of the position of a slice, LPS mm
_DCM2NIIX = "convert the series to NIfTI: dcm2niix -z y FOLDER"


def simpleitk(path: Path) -> Any:
    """Return the module SimpleITK.

    Args:
        path: File that needs it, for the message.

    Raises:
        InputError: If it is not installed.
    """
    try:
        return importlib.import_module("SimpleITK")
    except ImportError as error:
        raise InputError(
            Problem(
                where=str(path),
                what="is read and written by SimpleITK",
                expected="SimpleITK",
                found="it is not installed",
                remedy="pip install 'l2reg[itk]'",
            )
        ) from error


def read_itk_image(path: Path) -> SpatialImage:
    """Read a file of one of ``ITK_SUFFIXES``; voxels and header.

    Raises:
        InputError: If SimpleITK is not installed, or cannot read the file.
    """
    sitk = simpleitk(path)
    if path.suffix.lower() in (".nrrd", ".nhdr"):
        _check_words(path)
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise _unreadable(path, quantity(path.stat().st_size, "byte"), error) from error
    return from_simpleitk(image, path)


def read_dicom_series(folder: Path) -> SpatialImage:
    """Read a folder of DICOM files that are the slices of one scan.

    Raises:
        InputError: If SimpleITK is not installed or cannot read the files, they are of several
            series, or the slices are no even stack: one is missing, there are several volumes, or
            the gantry was tilted.
    """
    sitk = simpleitk(folder)
    series = {
        name: sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), name)
        for name in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    }
    if len(series) != 1:
        found = ", ".join(f"{Path(names[0]).name} and {len(names) - 1} more" for names in
                          series.values())  # fmt: skip
        raise InputError(
            Problem(
                where=str(folder),
                what=f"has {len(series)} series of DICOM files",
                expected="one series",
                found=found or "none with images",
                remedy=f"move the files of one series to a folder of its own, or {_DCM2NIIX}",
            )
        )
    (names,) = series.values()
    try:
        image = sitk.ReadImage(names)
        positions = [_slice_position(sitk, name) for name in names]
    except RuntimeError as error:
        raise _unreadable(folder, quantity(len(names), "slice"), error) from error
    result = from_simpleitk(image, folder)
    if len(names) > 1:
        _check_stack(folder, result.affine, np.array(positions) * _LPS_TO_RAS.diagonal()[:3])
    return result


def from_simpleitk(image: Any, path: Path) -> SpatialImage:
    """Return an image of SimpleITK as one of nibabel, whose positions are in RAS mm.

    Args:
        image: The image, of any number of dimensions.
        path: Its file or name, for messages.

    Raises:
        InputError: If a voxel has several numbers, or a complex one.
    """
    n = min(image.GetDimension(), 3)
    affine = np.eye(4)
    direction = np.reshape(image.GetDirection(), (image.GetDimension(),) * 2)
    affine[:n, :n] = (direction * image.GetSpacing())[:n, :n]
    affine[:n, 3] = image.GetOrigin()[:n]
    return SpatialImage(_array(image, path).T, _LPS_TO_RAS @ affine)


def _array(image: Any, path: Path) -> np.ndarray:
    array: np.ndarray = importlib.import_module("SimpleITK").GetArrayFromImage(image)
    if array.ndim == image.GetDimension() and array.dtype.kind in "iuf":
        return array
    raise InputError(
        Problem(
            where=str(path),
            what="does not have one real number in each voxel",
            expected="integers or floats",
            found=image.GetPixelIDTypeAsString(),
            remedy="store one channel, or the magnitude, as a separate volume",
        )
    )


def _check_words(path: Path) -> None:
    """Raise an ``InputError`` if a field has a long word, at which ITK 5.4 may crash."""
    with path.open("rb") as stream:
        header = stream.read(_HEADER).replace(b"\r", b"").partition(b"\n\n")[0]
    for line in header.splitlines():
        is_field = not line.startswith(b"#") and b":=" not in line
        if is_field and max(map(len, line.split()), default=0) > _MAX_WORD:
            error = ValueError(f"a word of its header is longer than {_MAX_WORD} characters")
            raise _unreadable(path, quantity(path.stat().st_size, "byte"), error)


def _slice_position(sitk: Any, name: str) -> list[float]:
    reader = sitk.ImageFileReader()
    reader.SetFileName(name)
    reader.ReadImageInformation()
    return [float(number) for number in reader.GetMetaData(_POSITION).split("\\")]


def _check_stack(
    folder: Path, affine: Float64[np.ndarray, "4 4"], positions: Float64[np.ndarray, "k 3"]
) -> None:
    """Raise an ``InputError`` if a slice is not where the header of the volume puts it."""
    steps = np.arange(len(positions))[:, None] * affine[:3, 2]
    apart = np.linalg.norm(affine[:3, 3] + steps - positions, axis=1)
    if apart.max() <= _MAX_APART * np.linalg.norm(affine[:3, :3], axis=0).min():
        return
    raise InputError(
        Problem(
            where=str(folder),
            what="is no even stack of slices",
            expected=f"{quantity(len(positions), 'slice')} at equal distances along their normal",
            found=f"slice {int(apart.argmax())} lies {apart.max():.3g} mm beside its place",
            remedy=f"look for a missing slice, several volumes or a tilted gantry; {_DCM2NIIX}",
        )
    )


def _unreadable(path: Path, content: str, error: Exception) -> InputError:
    last = [line for line in str(error).splitlines() if line.strip()][-1].strip()
    return InputError(
        Problem(
            where=str(path),
            what="cannot be read",
            expected="a complete volume",
            found=f"{content}; reading them fails: {last}",
            remedy="it is truncated or damaged: download or export it again",
        )
    )
