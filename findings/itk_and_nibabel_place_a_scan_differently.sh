#!/usr/bin/env bash
# ITK and nibabel place the same NIfTI file differently.
#
# One would guess that a file lies at one place: a header has a qform and an sform, and every
# reader that knows both prefers the same one.
#
# What happens: with qform_code 1 and sform_code 2 nibabel (as FSL and SPM) takes the sform, and ITK
# 5.4 (SimpleITK, ANTs, greedy, 3D Slicer) takes the qform. With sform_code 1 both take the sform.
# Nothing is printed by either.
#
# Why it matters: a transform in millimetres that is computed at nibabel's positions is applied at
# ITK's, and moves anatomy to the wrong place. Registration tools write qform_code 1 for the scanner
# and sform_code 2 to 4 for an aligned space, so such files are common.
#
# Exit code 0: the readers differ as described. 1: they no longer do.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet nibabel==5.4.2 SimpleITK==2.5.7 numpy
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys

import nibabel as nib
import numpy as np
import SimpleITK as sitk

qform, sform = np.diag([2.0, 3.0, 4.0, 1.0]), np.diag([2.0, 3.0, 4.0, 1.0])
qform[:3, 3], sform[:3, 3] = (10, 20, 30), (-40, 50, 60)


def origins(sform_code):
    """Return where nibabel and ITK place voxel 0, in RAS mm."""
    path = f"{sys.argv[1]}/scan.nii.gz"
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.float32), None)
    image.set_qform(qform, code=1)
    image.set_sform(sform, code=sform_code)
    nib.save(image, path)
    by_itk = np.array(sitk.ReadImage(path).GetOrigin()) * (-1, -1, 1)  # LPS to RAS
    return nib.load(path).affine[:3, 3].tolist(), by_itk.tolist()


print("nibabel", nib.__version__, "SimpleITK", sitk.Version_VersionString(), "numpy", np.__version__)
expected = {1: ([-40, 50, 60], [-40, 50, 60]), 2: ([-40, 50, 60], [10, 20, 30])}
found = {code: origins(code) for code in expected}
for code, (by_nibabel, by_itk) in found.items():
    print(f"qform_code 1, sform_code {code}: voxel 0 by nibabel {by_nibabel}, by ITK {by_itk}")
sys.exit(found != expected)
PYTHON
