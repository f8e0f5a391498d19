#!/usr/bin/env bash
# transformix of itk-elastix returns the field, and also writes it where the program runs.
#
# One would guess that a function which returns an image in memory leaves no file behind.
#
# What happens: itk.transformix_deformation_field returns the displacement field and writes the same
# field to deformationField.nii in the working folder, without a word and over a file of that name.
#
# Why it matters: a loop over pairs leaves megabytes of a patient's field in a checkout, where they
# are easily committed; two processes in one folder overwrite each other's file.
#
# Exit code 0: the file is written as described. 1: it no longer is.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet itk-elastix==0.25.4 numpy
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

import itk
import numpy as np

grid = np.indices((20, 22, 24))
blob = np.exp(-((grid - np.array([10, 11, 12]).reshape(3, 1, 1, 1)) ** 2).sum(0) / 30)
fixed = itk.image_from_array(blob.astype(np.float32))
moving = itk.image_from_array(np.roll(blob, 1, 0).astype(np.float32))
parameters = itk.ParameterObject.New()
parameters.AddParameterMap(parameters.GetDefaultParameterMap("translation", 1))
_, result = itk.elastix_registration_method(
    fixed, moving, parameter_object=parameters, log_to_console=False
)
before = {path.name for path in Path().iterdir()}
field = itk.array_from_image(itk.transformix_deformation_field(moving, result))
written = sorted({path.name for path in Path().iterdir()} - before)
print(f"itk-elastix {version('itk-elastix')}: field of shape {field.shape}, files written: {written}")
sys.exit(0 if "deformationField.nii" in written else 1)
PYTHON
