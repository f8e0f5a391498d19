"""NIfTI volumes: scans, label maps and masks are read with checks and written atomically."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from jaxtyping import Float, Float32, Shaped
from nibabel.nifti1 import Nifti1Header
from nibabel.spatialimages import SpatialImage

from l2reg.io.files import atomic_write
from l2reg.io.gzip_writer import FloatGzipWriter
from l2reg.io.headers import Placement, placement, set_place, unit_in_mm
from l2reg.io.nifti import open_image, read_voxels, volume_shape, voxel_type
from l2reg.io.scan_source import ScanSource, open_source
from l2reg.io.voxel_types import VoxelType
from l2reg.problems import InputError, Problem
from l2reg.shapes import Shape3, Spacing
from l2reg.wording import quantity


class Intent(NamedTuple):
    """What the numbers of a NIfTI file are: intent code and name."""

    code: int
    name: str = ""


VECTOR = Intent(1007)  # by which ITK recognises displacement fields


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
        place: Place of the scan.
        voxel_type: Data type and scaling of the file.
    """

    array: Float32[np.ndarray, "i j k"]
    place: Placement
    voxel_type: VoxelType

    @property
    def affine(self) -> Float[np.ndarray, "4 4"]:
        """Map from voxels to RAS mm."""
        return self.place.affine

    @property
    def spacing_mm(self) -> Spacing:
        """Voxel size in mm along i, j, k: the lengths of the affine's columns."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return (i, j, k)


def read_volume(source: Path | ScanSource) -> Volume:
    """Read a volume of real numbers and its affine; the file is opened once.

    Raises:
        InputError: If the file is missing or unreadable, is not three-dimensional, has voxels that
            are not finite real numbers, or an affine that is sheared or cannot be inverted.
    """
    image, path = open_source(source)
    place = placement(image, path)
    return Volume(_finite(read_voxels(image, path), path), place, voxel_type(image))


def read_header(path: Path) -> VolumeHeader:
    """Return shape and voxel size in mm of a volume; only the header is read.

    Trailing axes of length one are dropped.

    Raises:
        InputError: If the file is missing, unreadable or not three-dimensional.
    """
    image = open_image(path)
    shape = volume_shape(image, path)
    unit = unit_in_mm(image.header)
    di, dj, dk = (unit * float(size) for size in image.header.get_zooms()[:3])
    return VolumeHeader(shape, (di, dj, dk))


def read_affine(path: Path) -> Float[np.ndarray, "4 4"]:
    """Return the affine of a header: the map from voxels to RAS mm, as ITK sees it.

    Raises:
        InputError: See ``read_placement``.
    """
    return read_placement(path).affine


def read_placement(path: Path) -> Placement:
    """Return the place of a file in the world; see ``headers.placement``.

    Raises:
        InputError: If the file is missing or unreadable, or the affine is sheared or cannot be
            inverted.
    """
    return placement(open_image(path), path)


def place_problems(paths: Iterable[Path]) -> list[Problem]:
    """Return the faults of headers from which ``read_placement`` could not tell a place."""
    problems: list[Problem] = []
    for path in dict.fromkeys(paths):
        try:
            read_placement(path)
        except InputError as error:
            problems += error.problems
    return problems


def read_voxel_type(source: Path | ScanSource) -> VoxelType:
    """Return how a file stores its voxels; they are not read.

    Raises:
        InputError: If the file is missing or unreadable.
    """
    return voxel_type(open_source(source)[0])


def read_intent(image: SpatialImage) -> Intent:
    """Return what the numbers of an open file are; code 0 if its header does not say."""
    header = image.header
    if not isinstance(header, Nifti1Header):
        return Intent(0)
    return Intent(int(header["intent_code"]), header["intent_name"].item().decode("latin-1"))


def read_image(path: Path) -> Float32[np.ndarray, "i j k"]:
    """Return the intensities of a scan, with the header's scale factor and offset applied.

    Raises:
        InputError: If the file is missing or unreadable, is not three-dimensional, or has voxels
            that are not finite real numbers.
    """
    return _finite(read_voxels(open_image(path), path), path)


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
                found=f"{quantity(int(bad.sum()), 'voxel')} of NaN or infinity, the first at "
                f"{first}",
                remedy="replace them by the background value (-1000 HU in CT, 0 in MR)",
            )
        )
    return image


def read_labels(source: Path | ScanSource) -> Shaped[np.ndarray, "i j k"]:
    """Return a label map as int16.

    Raises:
        InputError: If the file is missing or unreadable, is not three-dimensional, or has values
            that are not integers of 16 bits.
    """
    image, path = open_source(source)
    values = read_voxels(image, path)
    fractional = values[values != np.floor(values)]  # NaN is among them
    if fractional.size:
        raise InputError(
            Problem(
                where=str(path),
                what="is not a label map",
                expected="integers",
                found=f"{quantity(fractional.size, 'voxel')} of other values, such as "
                f"{fractional[0]:.4g}",
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


def read_mask(source: Path | ScanSource) -> Shaped[np.ndarray, "i j k"]:
    """Return a mask as booleans: True where the file is not zero.

    Raises:
        InputError: If the file is no label map (see ``read_labels``), or no voxel is inside.
    """
    mask: np.ndarray = read_labels(source) != 0
    if not mask.any():
        raise InputError(
            Problem(
                where=str(source),
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
    place: Placement,
    *,
    scaling: VoxelType | None = None,
    intent: Intent | None = None,
) -> None:
    """Write a NIfTI volume atomically.

    Args:
        path: File to write, ``.nii.gz``.
        array: Voxel values, stored in their own data type.
        place: Place of the volume. Read from another file, it is written with that file's forms,
            codes and unit, so that every reader sees both at the same place.
        scaling: Voxel type by which the values become intensities; they are none other by default.
        intent: What the numbers are, if they are no intensities or labels.

    Raises:
        InputError: If the disk is full or the folder is not writable.
    """
    write_image(path, nifti_image(array, place, scaling=scaling, intent=intent))


def write_image(path: Path, image: nib.Nifti1Image) -> None:
    """Write an image atomically; ``InputError`` if the disk is full or not writable."""
    with atomic_write(path) as temporary:
        if path.suffix == ".gz" and image.get_data_dtype().kind == "f":
            with temporary.open("wb") as file, FloatGzipWriter(file) as compressed:
                image.to_stream(compressed)
        else:
            nib.save(image, temporary)


def nifti_image(
    array: Shaped[np.ndarray, "..."],
    place: Placement,
    *,
    scaling: VoxelType | None = None,
    intent: Intent | None = None,
) -> nib.Nifti1Image:
    """Return what ``write_volume`` writes."""
    image = nib.Nifti1Image(array, None, dtype=array.dtype)
    set_place(image.header, place)
    if scaling is not None and (scaling.slope, scaling.intercept) != (1.0, 0.0):
        image.header.set_slope_inter(scaling.slope, scaling.intercept)
    if intent is not None:
        image.header.set_intent(intent.code, name=intent.name)
    return image
