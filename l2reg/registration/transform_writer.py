"""Writer of transforms in the form of any tool."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32

from l2reg.problems import InputError, Problem
from l2reg.registration.transform_scans import TransformScans
from l2reg.submission.fields import file_name, to_submission, write_field, write_full_field
from l2reg.transforms.fsl import write_flirt, write_fnirt
from l2reg.transforms.image_grid import ImageGrid
from l2reg.transforms.itk import write_warp
from l2reg.transforms.itk_files import write_itk
from l2reg.transforms.matrices import write_matrix
from l2reg.transforms.spm import write_mapping
from l2reg.transforms.torch_grid import write_grid_sample
from l2reg.transforms.world_transform import AffineMap, DisplacementMap, WorldTransform

_MATRICES = {"itk": (".tfm", ".txt", ".mat", ".h5"), "greedy": (".mat", ".txt"), "fsl": (".mat",)}
_NIFTI = (".nii.gz", ".nii")
_FIELDS = {
    "itk": (*_NIFTI, ".h5"),
    "greedy": _NIFTI,
    "fsl": _NIFTI,
    "spm": _NIFTI,
    "torch": (".npy",),
    "challenge": _NIFTI,
    "challenge-2021": (".npz",),
}


def write_transform(
    path: Path, transform: WorldTransform, form: str, scans: TransformScans
) -> None:
    """Write a transform; a file of an affine map if its suffix is of one and it is affine.

    Fields are written on the grid of the fixed scan, or on their own if that is not known.

    Args:
        path: File to write; its suffix must be one of the form.
        transform: The transform.
        form: One of ``FORMS``.
        scans: The scans that it connects.

    Raises:
        InputError: If the form has no such suffix, or a scan is needed that is not known.
    """
    matrix = transform.matrix
    if matrix is not None and path.name.endswith(_MATRICES.get(form, ())):
        _write_matrix_file(path, matrix, form, scans)
    elif path.name.endswith(_FIELDS.get(form, ())):
        _write_field_file(path, transform, form, scans)
    else:
        kind, table = ("a field", _FIELDS) if matrix is None else ("an affine map", _MATRICES)
        suffixes = dict.fromkeys((*table.get(form, ()), *_FIELDS.get(form, ())))
        raise InputError(
            Problem(
                where=str(path),
                what=f"cannot be written: {kind} in the form {form!r}",
                expected=" or ".join(suffixes) or f"a form that is written: {', '.join(_FIELDS)}",
                found=path.name if suffixes else form,
                remedy="change the name of --out, or the form",
            )
        )


def _write_matrix_file(path: Path, matrix: np.ndarray, form: str, scans: TransformScans) -> None:
    if form == "itk":
        write_itk(path, WorldTransform((AffineMap(matrix),)))
    elif form == "greedy":
        write_matrix(path, matrix)
    else:
        write_flirt(path, matrix, *scans.both(str(path)))


def _write_field_file(
    path: Path, transform: WorldTransform, form: str, scans: TransformScans
) -> None:
    if form == "itk" and path.suffix == ".h5":
        write_itk(path, keep_steps(transform, scans, str(path)))
        return
    field = field_of(transform, scans, str(path))
    if form in _WITH_MOVING:
        moving = TransformScans(field.grid, scans.moving).both(str(path))[1]
        _WITH_MOVING[form](path, field, moving)
    else:
        (write_mapping if form == "spm" else write_warp)(path, field)


def keep_steps(transform: WorldTransform, scans: TransformScans, where: str) -> WorldTransform:
    """Return a transform of affine maps and fields; one with inverse fields as a single field."""
    if all(isinstance(step, AffineMap | DisplacementMap) for step in transform.steps):
        return transform
    return WorldTransform((field_of(transform, scans, where),))


def field_of(transform: WorldTransform, scans: TransformScans, where: str) -> DisplacementMap:
    """Return a transform as one field on the grid of the fixed scan, or on its own.

    Raises:
        InputError: If neither is known.
    """
    if scans.fixed is not None:
        return transform.on_grid(scans.fixed)
    match transform.steps:
        case (DisplacementMap() as field,):
            return field
    raise InputError(
        Problem(
            where=where,
            what="is to be a displacement field",
            expected="the scan on whose grid it lies",
            found="no --reference",
            remedy="add --reference FIXED",
        )
    )


def _write_challenge(path: Path, field: DisplacementMap, moving: ImageGrid) -> None:
    write_full_field(path.parent, path.name, _voxel_field(field, moving))


def _write_challenge_2021(path: Path, field: DisplacementMap, moving: ImageGrid) -> None:
    pair_name = path.stem.removeprefix("disp_")
    if path.name != file_name(pair_name):
        raise InputError(
            Problem(
                where=str(path),
                what="is no name of the 2021 challenge",
                expected="disp_FFFF_MMMM.npz",
                found=path.name,
                remedy=f"--out {path.with_name('disp_0001_0001.npz')}",
            )
        )
    disp = torch.from_numpy(_voxel_field(field, moving))[None]
    write_field(path.parent, pair_name, to_submission(disp, field.grid.shape)[0])


def _voxel_field(field: DisplacementMap, moving: ImageGrid) -> Float32[np.ndarray, "3 i j k"]:
    return WorldTransform((field,)).voxel_field(field.grid, moving.place.affine)


_WITH_MOVING: dict[str, Callable[[Path, DisplacementMap, ImageGrid], None]] = {
    "fsl": write_fnirt,
    "torch": write_grid_sample,
    "challenge": _write_challenge,
    "challenge-2021": _write_challenge_2021,
}
