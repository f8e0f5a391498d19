#!/usr/bin/env bash
# ITK takes either of two forms that mirror each other, by the orientation of the scan.
#
# One would guess that ITK chooses between the qform and the sform of a header by their codes: with
# sform_code 2 to 4 beside qform_code 1 it takes the qform, whatever the numbers are.
#
# What happens: where the sform is the qform with an axis turned round, at the same origin, ITK 5.4
# (SimpleITK, ANTs, greedy, 3D Slicer) takes the sform for some orientations of the scan and the
# qform for others, as its test of whether both forms are alike does not see a reflection in all.
#
# Why it matters: two scans of one patient whose headers were spoilt alike, by a tool that flips an
# axis in one form alone, are placed mirrored to each other. A tool that follows ITK's rule by the
# codes puts its transforms and warped scans elsewhere than ITK does.
#
# Exit code 0: both forms are taken, as described. 1: it is one of them throughout.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet nibabel==5.4.2 SimpleITK==2.5.7 numpy scipy
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from scipy.spatial.transform import Rotation


def taken(seed, spacing):
    """Return which form ITK takes, of a scan that is turned by a rotation of this seed."""
    rotation = Rotation.random(random_state=seed).as_matrix() if seed else np.eye(3)
    qform = np.eye(4)
    qform[:3, :3], qform[:3, 3] = rotation * spacing, (5, -7, 9)
    sform = qform.copy()
    sform[:3, 0] *= -1
    path = f"{sys.argv[1]}/scan.nii"
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.float32), None)
    image.header.set_qform(qform, 1)
    image.header.set_sform(sform, 4)
    nib.save(image, path)
    seen = sitk.ReadImage(path)
    axes = np.reshape(seen.GetDirection(), (3, 3)) * seen.GetSpacing() * [[-1], [-1], [1]]
    forms = {"qform": qform, "sform": sform}
    return next(name for name, form in forms.items() if np.allclose(axes, form[:3, :3], atol=1e-4))


print("SimpleITK", sitk.Version_VersionString(), "nibabel", nib.__version__, "numpy", np.__version__)
found = [taken(seed, (2.0, 1.5, 3.0)) for seed in range(12)]
print("taken for twelve orientations:", *found)
sys.exit(set(found) != {"qform", "sform"})
PYTHON
