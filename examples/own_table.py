"""Make a table of one's own scans from phantom lungs: ``python examples/own_table.py phantom my``.

Every second person comes from another scanner: those scans are cropped, turned and of thicker
slices. Points are in mm. The table is ``my/pairs.csv``; docs/own_data.md goes on from there.
"""

import csv
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

SIDES = {"fixed": "exp", "moving": "insp"}
COLUMNS = (
    "fixed",
    "moving",
    "fixed_mask",
    "moving_mask",
    "fixed_points",
    "moving_points",
    "subject",
)


def main(phantom: Path, out: Path) -> None:
    """Write scans, masks, points and ``pairs.csv``.

    Args:
        phantom: Folder of ``l2reg phantom --flavour lung``.
        out: New folder.
    """
    source = phantom / "task_02/training"
    out.mkdir()
    rows = []
    for number, _ in enumerate(sorted((source / "scans").glob("*_exp.nii.gz")), start=1):
        row = {"subject": f"person{number}"}
        for side, name in SIDES.items():
            for folder, kind in (("scans", ""), ("lungMasks", "_mask")):
                image = nib.load(source / folder / f"case_{number:03}_{name}.nii.gz")
                image = from_another_scanner(image) if number % 2 else image
                row[side + kind] = f"{number}_{name}{kind}.nii.gz"
                nib.save(image, out / row[side + kind])
        points = source / f"keypoints/case_{number:03}.csv"
        if points.is_file():
            affine = nib.load(source / f"scans/case_{number:03}_exp.nii.gz").affine
            voxels = np.loadtxt(points, delimiter=",")
            for n, (side, name) in enumerate(SIDES.items()):
                row[f"{side}_points"] = f"{number}_{name}.csv"
                mm = apply_affine(affine, voxels[:, 3 * n : 3 * n + 3])
                np.savetxt(out / row[f"{side}_points"], mm, "%.3f", ",", header="x,y,z")
        rows.append(row)
    with (out / "pairs.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def from_another_scanner(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """Return every second slice of a scan without its margins, with other axes first."""
    part = image.slicer[4:-2, :, 6::2]
    turn = ornt_transform(io_orientation(part.affine), axcodes2ornt("PIR"))
    return part.as_reoriented(turn)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
