"""ITK transform files (``.tfm``, ``.txt``, ``.mat``, ``.h5``), through SimpleITK."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from l2reg.io.files import atomic_write
from l2reg.io.headers import Placement
from l2reg.io.itk import simpleitk
from l2reg.problems import InputError, Problem
from l2reg.transforms.itk import RAS_TO_LPS
from l2reg.transforms.world_transform import AffineMap, DisplacementMap, Step, WorldTransform
from l2reg.wording import quantity

_SIGNS = RAS_TO_LPS.diagonal()[:3]


def read_itk(path: Path) -> WorldTransform:
    """Read linear transforms, displacement fields and compositions of them, from fixed to moving.

    Raises:
        InputError: If SimpleITK is not installed, or the file is unreadable or has another kind of
            transform.
    """
    sitk = simpleitk(path)
    try:
        transform = sitk.ReadTransform(str(path))
    except RuntimeError as error:
        last = [line for line in str(error).splitlines() if line.strip()][-1]
        raise InputError(
            Problem(
                where=str(path),
                what="cannot be read as a transform of ITK",
                expected="a .tfm, .txt, .mat or .h5 file of ITK or ANTs",
                found=f"{quantity(path.stat().st_size, 'byte')}; reading fails: {last.strip()}",
                remedy="write it again, or name its form: `l2reg convert --help` lists them",
            )
        ) from error
    return WorldTransform(tuple(_steps(sitk, transform, path)))


def write_itk(path: Path, transform: WorldTransform) -> None:
    """Write a transform of affine maps and displacement fields; in ``.h5``, its steps one by one.

    Args:
        path: File to write: ``.h5``, or for an affine map alone ``.tfm``, ``.txt`` or ``.mat``.
        transform: The transform, of affine maps and displacement fields.

    Raises:
        InputError: If SimpleITK is not installed, or a field goes to a file of affine maps.
    """
    sitk = simpleitk(path)
    matrix = transform.matrix
    if matrix is not None:
        result = _affine(sitk, matrix)
    elif path.suffix == ".h5":
        result = sitk.CompositeTransform(3)
        for step in reversed(transform.steps):  # ITK applies the last one first
            result.AddTransform(_itk_step(sitk, step))
    else:
        raise InputError(
            Problem(
                where=str(path),
                what="cannot hold a displacement field",
                expected="an affine transform for .tfm, .txt and .mat",
                found="a displacement field",
                remedy="write .h5 (composite) or .nii.gz (displacement field)",
            )
        )
    with atomic_write(path) as temporary:
        sitk.WriteTransform(result, str(temporary))


def _steps(sitk: Any, transform: Any, path: Path) -> Iterator[Step]:
    kind = transform.GetTransformEnum()
    if kind == sitk.sitkComposite:
        parts = sitk.CompositeTransform(transform)
        for index in reversed(range(parts.GetNumberOfTransforms())):
            yield from _steps(sitk, parts.GetNthTransform(index), path)
    elif kind == sitk.sitkDisplacementField:
        yield _field(sitk, sitk.DisplacementFieldTransform(transform).GetDisplacementField())
    elif transform.IsLinear() and transform.GetDimension() == 3:
        yield AffineMap(_probe(transform))
    else:
        raise InputError(
            Problem(
                where=str(path),
                what="has a transform that is neither linear nor a displacement field in 3D",
                expected="linear transforms, displacement fields or compositions of them",
                found=f"{transform.GetName()} in {transform.GetDimension()}D",
                remedy="sample it first: sitk.TransformToDisplacementField(transform, ...)",
            )
        )


def _probe(transform: Any) -> Float64[np.ndarray, "4 4"]:
    """Return a linear transform as a matrix in RAS mm, whatever its parameters are."""
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    matrix = np.eye(4)
    for axis, unit in enumerate(np.eye(3)):
        matrix[:3, axis] = np.array(transform.TransformPoint(unit.tolist())) - origin
    matrix[:3, 3] = origin
    return RAS_TO_LPS @ matrix @ RAS_TO_LPS


def _field(sitk: Any, image: Any) -> DisplacementMap:
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    vectors = sitk.GetArrayFromImage(image).T.astype(np.float64)
    disp_mm = np.ascontiguousarray(_SIGNS.reshape(3, 1, 1, 1) * vectors)
    return DisplacementMap(disp_mm, Placement(RAS_TO_LPS @ affine))


def _affine(sitk: Any, matrix: Float64[np.ndarray, "4 4"]) -> Any:
    lps = RAS_TO_LPS @ matrix @ RAS_TO_LPS
    result = sitk.AffineTransform(3)
    result.SetMatrix(lps[:3, :3].ravel().tolist())
    result.SetTranslation(lps[:3, 3].tolist())
    return result


def _itk_step(sitk: Any, step: Step) -> Any:
    if isinstance(step, AffineMap):
        return _affine(sitk, step.matrix)
    assert isinstance(step, DisplacementMap)
    vectors = (_SIGNS.reshape(3, 1, 1, 1) * step.disp_mm).T
    image = sitk.GetImageFromArray(np.ascontiguousarray(vectors), isVector=True)
    affine = RAS_TO_LPS @ step.place.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return sitk.DisplacementFieldTransform(image)
