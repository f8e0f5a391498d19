#!/usr/bin/env bash
# nitransforms reads the displacements of FNIRT as if they were along the axes of the world.
#
# One would guess that a library of transforms with a format "fsl" maps a point through FNIRT's
# relative warp to where FSL's own Python library maps it.
#
# What happens: FNIRT's displacements are millimetres along the axes of the voxel grid (with x from
# right to left for some headers). nitransforms 25.1 adds them to world positions, with x negated. On
# an oblique grid it maps points elsewhere than fslpy, and nothing is printed.
#
# Why it matters: oblique acquisitions are common; a check of one's own warps by nitransforms then
# blames the right file, or lets a wrong one pass.
#
# Exit code 0: the libraries differ as described. 1: they no longer do.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet nitransforms==25.1.0 fslpy==3.29.1
"$folder/venv/bin/python" -W ignore - "$folder" <<'PYTHON'
import sys
from importlib.metadata import version

import nibabel as nib
import numpy as np
from fsl.data.image import Image
from fsl.transform.fnirt import readFnirt
from nitransforms.nonlinear import load

SHAPE = (20, 22, 24)
turn = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
differ = {}
for name, rotation in (("along the axes", np.eye(3)), ("oblique", turn)):
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag([-1.0, 1.5, 2.0])  # FSL turns no axis of such a header
    scan = f"{sys.argv[1]}/scan.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.float32), affine), scan)
    field = np.zeros((*SHAPE, 3), np.float32)
    field[:] = (3.0, 4.0, 5.0)
    image = nib.Nifti1Image(field, affine)
    image.header["intent_code"] = 2006  # FSL_FNIRT_DISPLACEMENT_FIELD
    warp = f"{sys.argv[1]}/warp.nii.gz"
    nib.save(image, warp)
    middle = nib.affines.apply_affine(affine, np.array([[10.0, 11.0, 12.0]]))
    by_fsl = readFnirt(warp, Image(scan), Image(scan), defType="relative").transform(
        middle, "world", "world"
    )
    exact = rotation @ (-3.0, 4.0, 5.0)
    by_nitransforms = load(warp, fmt="fsl").map(middle)
    print(f"{name}: expected {exact.round(2)}, fslpy {version('fslpy')} "
          f"{(by_fsl - middle)[0].round(2)}, nitransforms {version('nitransforms')} "
          f"{(by_nitransforms - middle)[0].round(2)}")  # fmt: skip
    assert np.allclose(by_fsl - middle, exact, atol=1e-3)
    differ[name] = not np.allclose(by_nitransforms, by_fsl, atol=1e-3)
sys.exit(0 if differ == {"along the axes": False, "oblique": True} else 1)
PYTHON
