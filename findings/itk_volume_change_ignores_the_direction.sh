#!/usr/bin/env bash
# ITK's Jacobian determinant of a displacement field ignores the direction of the grid.
#
# One would guess that the change of volume of a field does not depend on how its grid lies in the
# world: the vectors are in millimetres of the world, and the image has a direction matrix.
#
# What happens: DisplacementFieldJacobianDeterminant of ITK 5.4 (SimpleITK) differentiates along the
# array axes and does not turn them. On an oblique grid its determinants differ from those of
# ITK's own transform of the same field, and the same motion on a grid along the axes gives others.
#
# Why it matters: folds and SDlogJ, which registrations are judged by, come out wrong for oblique
# scans, and nothing is printed. Multiply the vectors by the inverse of the direction matrix first.
#
# Exit code 0: the determinants differ as described. 1: they no longer do.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet SimpleITK==2.5.7 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import SimpleITK as sitk

TURN = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
MATRIX = np.array([[0.1, 0.3, 0.0], [0.0, -0.1, 0.2], [0.1, 0.0, 0.05]])  # of u(x) = MATRIX x
EXACT = np.linalg.det(np.eye(3) + MATRIX)


def by_itk(direction: np.ndarray) -> tuple[float, float]:
    """Return the filter's determinant in the middle, and that of ITK's transform of the field."""
    image = sitk.Image([12, 13, 14], sitk.sitkVectorFloat64, 3)
    image.SetSpacing((1.0, 1.5, 2.0))
    image.SetDirection(direction.ravel().tolist())
    for index in np.ndindex(12, 13, 14):
        point = np.array(image.TransformIndexToPhysicalPoint(index))
        image[index] = (MATRIX @ point).tolist()
    found = sitk.DisplacementFieldJacobianDeterminant(image)[6, 6, 6]
    transform = sitk.DisplacementFieldTransform(image)  # empties the image
    centre = direction @ (np.array([6, 6, 6]) * (1.0, 1.5, 2.0))
    steps = 0.1 * np.eye(3)
    columns = [
        (np.array(transform.TransformPoint((centre + step).tolist()))
         - np.array(transform.TransformPoint((centre - step).tolist()))) / 0.2
        for step in steps
    ]  # fmt: skip
    return found, float(np.linalg.det(np.stack(columns, axis=1)))


print(f"SimpleITK {sitk.Version.VersionString()}, exact determinant {EXACT:.4f}")
differ = {}
for name, direction in (("along the axes", np.eye(3)), ("oblique", TURN)):
    by_filter, by_transform = by_itk(direction)
    differ[name] = abs(by_filter - EXACT) > 0.01
    print(f"{name}: filter {by_filter:.4f}, transform {by_transform:.4f}")
sys.exit(0 if differ == {"along the axes": False, "oblique": True} else 1)
PYTHON
