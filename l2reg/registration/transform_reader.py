"""Reader of transforms in the form of any tool, told by content or by name."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from l2reg.io.volumes import VECTOR
from l2reg.problems import InputError, Problem
from l2reg.registration.transform_forms import FORMS
from l2reg.registration.transform_scans import TransformScans
from l2reg.submission.fields import read_field
from l2reg.submission.half_resolution import upsample
from l2reg.transforms.freesurfer import read_lta
from l2reg.transforms.fsl import RELATIVE_WARP, fnirt_transform, read_flirt
from l2reg.transforms.image_grid import ImageGrid
from l2reg.transforms.itk import warp_transform
from l2reg.transforms.itk_files import read_itk
from l2reg.transforms.matrices import read_matrix
from l2reg.transforms.spm import MAPPING, mapping_transform
from l2reg.transforms.torch_grid import read_grid_sample
from l2reg.transforms.vector_volumes import VectorVolume, read_vectors
from l2reg.transforms.world_transform import AffineMap, WorldTransform, displacement_map

_SUFFIXES = {".npy": "torch", ".npz": "challenge-2021", ".lta": "freesurfer"}


def read_transform(name: str | Path, scans: TransformScans) -> WorldTransform:
    """Read a transform of any form in ``FORMS``, from fixed to moving positions.

    Args:
        name: File, or ``FORM:FILE`` where the content leaves the form open.
        scans: The scans that it connects; forms in voxels need them.

    Raises:
        InputError: If the file is missing, unreadable or of no known form, or needs a scan that is
            not known.
    """
    form, path = _split(name)
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise InputError(
            Problem(
                where=str(path),
                what="is no file",
                expected="a transform",
                found=found,
                remedy="name the file, such as OUT/transform.nii.gz that `l2reg register` wrote",
            )
        )
    if path.name.endswith((".nii.gz", ".nii")):
        return _read_volume(path, form, scans)
    form = form or _SUFFIXES.get(path.suffix) or _text_form(path)
    if form in _READERS:
        return _READERS[form](path)
    if form in _VOXEL_READERS:
        return _VOXEL_READERS[form](path, *scans.both(str(path)))
    raise _unknown(path, f"the suffix {path.suffix!r} for the form {form!r}")


def transform_path(name: str | Path) -> Path:
    """Return the file of a transform whose name may begin with its form."""
    return _split(name)[1]


def _split(name: str | Path) -> tuple[str, Path]:
    """Return the form before a colon, or nothing, and the path."""
    form, colon, file = str(name).partition(":")
    return (form, Path(file)) if colon and form in FORMS else ("", Path(name))


def _read_volume(path: Path, form: str, scans: TransformScans) -> WorldTransform:
    volume = read_vectors(path)
    form = form or _volume_form(volume)
    if form in ("itk", "greedy"):
        return warp_transform(volume)
    if form == "spm":
        return mapping_transform(volume)
    if form == "fsl":
        moving = TransformScans(volume.grid, scans.moving).both(str(path))[1]
        return fnirt_transform(volume, moving)
    if form == "challenge":
        return _challenge_transform(path, volume, *scans.both(str(path)))
    raise _unknown(path, f"a NIfTI file of intent code {volume.intent.code}")


def _volume_form(volume: VectorVolume) -> str:
    """Return the form that a header tells, or nothing."""
    if volume.axes == 5:
        by_name = {MAPPING: "spm"}
        return by_name.get(volume.intent, "itk" if volume.intent.code == VECTOR.code else "")
    return {RELATIVE_WARP.code: "fsl", 0: "challenge"}.get(volume.intent.code, "")


def _text_form(path: Path) -> str:
    """Return ``itk`` unless the file is a bare matrix, as of greedy and of FSL."""
    try:
        bare = np.loadtxt(path, ndmin=2).shape == (4, 4)
    except ValueError:  # text or bytes that are no numbers
        return "itk"
    if bare:
        raise _unknown(path, "four rows of four numbers, as of greedy and of FSL")
    return "itk"


def _unknown(path: Path, found: str) -> InputError:
    return InputError(
        Problem(
            where=str(path),
            what="is in no form that its name or content tells",
            expected=f"a form before the file: {', '.join(FORMS)}",
            found=found,
            remedy=f"such as greedy:{path.name} or fsl:{path.name}",
        )
    )


def _read_greedy(path: Path) -> WorldTransform:
    return WorldTransform((AffineMap(read_matrix(path)),))


def _challenge_transform(
    path: Path, volume: VectorVolume, fixed: ImageGrid, moving: ImageGrid
) -> WorldTransform:
    if volume.grid.shape != fixed.shape:
        raise InputError(
            Problem(
                where=str(path),
                what="does not lie on the grid of the fixed scan",
                expected=f"shape {fixed.shape}",
                found=f"shape {volume.grid.shape}",
                remedy="name the fixed scan of this field by --reference",
            )
        )
    field = displacement_map(volume.vectors, fixed.place, moving.place.affine)
    return WorldTransform((field,))


def _read_challenge_2021(path: Path, fixed: ImageGrid, moving: ImageGrid) -> WorldTransform:
    disp = upsample(read_field(path.read_bytes(), str(path), fixed.shape))
    return WorldTransform((displacement_map(disp, fixed.place, moving.place.affine),))


_READERS: dict[str, Callable[[Path], WorldTransform]] = {
    "itk": read_itk,
    "greedy": _read_greedy,
    "freesurfer": read_lta,
}
_VOXEL_READERS: dict[str, Callable[[Path, ImageGrid, ImageGrid], WorldTransform]] = {
    "fsl": read_flirt,
    "torch": read_grid_sample,
    "challenge-2021": _read_challenge_2021,
}
