"""Start of a registration, read from the transform of another tool."""

from pathlib import Path

import torch
from tqdm import tqdm

from l2reg.problems import InputError, Problem
from l2reg.registration.bids_names import check_chain
from l2reg.registration.initial_map import Prealignment
from l2reg.registration.scan_files import ScanFiles
from l2reg.registration.start import Start, start_from_field
from l2reg.registration.transform_reader import read_transform, transform_path
from l2reg.registration.transform_scans import read_scans_of
from l2reg.transforms.image_grid import ImageGrid
from l2reg.transforms.world import voxel_map
from l2reg.transforms.world_transform import WorldTransform

_N_TRIED = 20_000
_WHOLE = 0.99  # fraction of the fixed scan; a field on its own grid may miss its outermost voxels


def read_initial(
    name: str | Path, files: tuple[ScanFiles, ScanFiles], prealign: Prealignment
) -> Start:
    """Return a transform as a map, or a field, from fixed to moving voxels.

    What part of the fixed scan a field covers is said unless it is all: beyond, nothing moves.

    Args:
        name: Transform from fixed to moving positions, see ``read_transform``.
        files: The fixed and the moving scan.
        prealign: How an initial map would be searched; it must be left at ``auto`` or ``none``.

    Raises:
        InputError: If the transform is unreadable, has the name of another direction (see
            ``check_chain``), or a search is asked for besides.
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
    check_chain([transform_path(name)], files[0].image.path, files[1].image.path)
    scans = read_scans_of(files[0].image, files[1].image)
    transform = read_transform(name, scans)
    fixed, moving = scans.both(str(name))
    matrix = transform.matrix
    if matrix is None:
        _tell_coverage(str(name), transform, fixed)
        disp = transform.voxel_field(fixed, moving.place.affine)
        return start_from_field(torch.from_numpy(disp)[None])
    voxels = voxel_map(matrix @ fixed.place.affine, moving.place.affine)
    return Start(torch.from_numpy(voxels)[None, :3].float())


def _tell_coverage(name: str, transform: WorldTransform, fixed: ImageGrid) -> None:
    points = fixed.points()
    tried = points[:, :: max(1, points.shape[1] // _N_TRIED)]
    covered = transform.contains(tried).mean()
    if covered < _WHOLE:
        tqdm.write(
            f"!!! {name}: covers {100 * covered:.0f} % of the fixed scan, and moves nothing beyond"
        )
