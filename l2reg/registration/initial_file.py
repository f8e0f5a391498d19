"""Initial map of a registration, read from the transform of another tool."""

from pathlib import Path

import torch

from l2reg.problems import InputError, Problem
from l2reg.registration.initial_map import Prealignment
from l2reg.registration.scan_files import ScanFiles
from l2reg.registration.transform_reader import read_transform
from l2reg.registration.transform_scans import read_scans_of
from l2reg.shapes import Affine
from l2reg.transforms.world import voxel_map


def read_initial(
    name: str | Path, files: tuple[ScanFiles, ScanFiles], prealign: Prealignment
) -> Affine:
    """Return a transform as a map from fixed to moving voxels.

    Args:
        name: Affine transform from fixed to moving positions, see ``read_transform``.
        files: The fixed and the moving scan.
        prealign: How an initial map would be searched; it must be left at ``auto`` or ``none``.

    Raises:
        InputError: If the transform is unreadable or has a displacement field, or a search is asked
            for besides.
    """
    if prealign not in ("auto", "none"):
        raise InputError(
            Problem(
                where=f"--prealign {prealign}",
                what="searches for a map, but one is given",
                expected="--initial or --prealign",
                found=f"--initial {name}",
                remedy="leave out one of them",
            )
        )
    scans = read_scans_of(files[0].image, files[1].image)
    matrix = read_transform(name, scans).matrix
    fixed, moving = scans.both(str(name))
    if matrix is None:
        raise InputError(
            Problem(
                where=str(name),
                what="is no affine map to start from",
                expected="a linear transform",
                found="a displacement field",
                remedy="warp the moving scan by it, register the result, and hand both transforms "
                "to l2reg warp",
            )
        )
    voxels = voxel_map(matrix @ fixed.place.affine, moving.place.affine)
    return torch.from_numpy(voxels)[None, :3].float()
