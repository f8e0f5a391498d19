"""Where a scan comes from: a file, one of its volumes, or an image in memory."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.spatialimages import SpatialImage

from l2reg.io.files import content_digest
from l2reg.io.itk import from_simpleitk
from l2reg.io.nifti import open_image
from l2reg.problems import InputError, Problem

# File or DICOM folder, image of nibabel or SimpleITK, or array (i, j, k) and affine to RAS mm
ScanInput: TypeAlias = Any

_IN_MEMORY = Path("image in memory")
_DETACHED = (".mhd", ".nhdr", ".hdr", ".img")  # forms with header and voxels in two files


@dataclass(frozen=True)
class ScanSource:
    """Where a scan comes from.

    Attributes:
        path: File, DICOM folder, or the name of an image in memory.
        volume: Which of several volumes it is, counted from 0; a file of one is that volume.
        image: The image in memory, if it is one.
    """

    path: Path
    volume: int | None = None
    image: SpatialImage | None = None

    def __str__(self) -> str:
        return str(self.path) if self.volume is None else f"{self.path}, volume {self.volume}"


def open_source(source: Path | ScanSource) -> tuple[SpatialImage, Path]:
    """Return an opened volume, and its path or name for messages; voxels are not read.

    Raises:
        InputError: If the file is missing or no volume, or does not have the volume.
    """
    if isinstance(source, Path):
        return open_image(source), source
    image = open_image(source.path) if source.image is None else source.image
    if source.volume is not None and _n_volumes(image.shape) > 1:
        image = _select_volume(image, source.volume, source.path)
    return image, source.path


def as_source(scan: ScanInput, volume: int | None = None) -> ScanSource:
    """Return where a scan comes from.

    Args:
        scan: A file or DICOM folder; an image of nibabel or SimpleITK; or an array ``(i, j, k)``
            and the 4 x 4 affine that takes its voxels to RAS mm.
        volume: Which of several volumes it is, counted from 0.

    Raises:
        InputError: If it is something else.
    """
    if isinstance(scan, str | Path):
        return ScanSource(Path(scan), volume)
    if isinstance(scan, SpatialImage):
        # without its file: the header in memory counts
        image = type(scan)(scan.dataobj, scan.affine, scan.header)
        return ScanSource(Path(scan.get_filename() or _IN_MEMORY), volume, image)
    if type(scan).__module__.startswith("SimpleITK"):
        return ScanSource(_IN_MEMORY, volume, from_simpleitk(scan, _IN_MEMORY))
    if isinstance(scan, tuple) and len(scan) == 2 and np.shape(scan[1]) == (4, 4):
        array = np.asarray(scan[0])
        array = array.astype(np.uint8) if array.dtype == bool else array
        return ScanSource(_IN_MEMORY, volume, SpatialImage(array, np.asarray(scan[1], float)))
    raise InputError(
        Problem(
            where=str(_IN_MEMORY),
            what="is no scan",
            expected="a path, an image of nibabel or SimpleITK, or (array, affine)",
            found=f"a {type(scan).__name__}",
            remedy="hand an array over as (array, affine), with the 4 x 4 affine to RAS mm",
        )
    )


def _n_volumes(shape: Sequence[int]) -> int:
    return shape[3] if len(shape) > 3 and all(size == 1 for size in shape[4:]) else 1


def _select_volume(image: SpatialImage, volume: int, path: Path) -> SpatialImage:
    n = _n_volumes(image.shape)
    if not 0 <= volume < n:
        raise InputError(
            Problem(
                where=str(path),
                what=f"has no volume {volume}",
                expected=f"0 to {n - 1}",
                found=str(volume),
                remedy=f"--volume {n - 1} is the last one",
            )
        )
    shape, voxels = image.shape[:3], image.dataobj
    if type(voxels) is ArrayProxy:  # volumes follow each other in the file
        size = shape[0] * shape[1] * shape[2] * voxels.dtype.itemsize
        offset = voxels.offset + volume * size
        scaling = (voxels.slope, voxels.inter)
        voxels = ArrayProxy(voxels.file_like, (shape, voxels.dtype, offset, *scaling))
    else:
        voxels = voxels[:, :, :, volume]
    return type(image)(voxels, image.affine, image.header, file_map=image.file_map)


def input_digest(path: Path) -> str | None:
    """Return the digest of an input, see ``scan_digest``; ``None`` if there is no such file."""
    return scan_digest(path) if path.exists() else None


def scan_digest(path: Path) -> str:
    """Return the SHA-256 of all bytes of a file or folder.

    A DICOM folder is all its files, a header whose voxels lie beside it both files: it has the
    SHA-256 of their digests.
    """
    if path.is_dir():
        files = [file for file in sorted(path.iterdir()) if file.is_file()]
    elif path.suffix.lower() in _DETACHED:
        files = [file for file in sorted(path.parent.iterdir()) if file.stem == path.stem]
    else:
        return content_digest(path)
    digests = "".join(content_digest(file) for file in files)
    return hashlib.sha256(digests.encode()).hexdigest()
