"""Registration of two scans that belong to no data set, without training."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from l2reg.batch import Batch, to_device
from l2reg.config.build import build
from l2reg.config.presets import load_preset
from l2reg.data.intensity import Region
from l2reg.geometry.affine import affine_after_field
from l2reg.geometry.resize import resample, resize_field
from l2reg.geometry.warp import warp_with_fill
from l2reg.inference.prepare import training_free_method
from l2reg.io.files import atomic_write, ensure_writable
from l2reg.io.volumes import Volume, read_volume
from l2reg.problems import InputError, raise_if_any
from l2reg.registration.field_of_view import field_of_view
from l2reg.registration.input_checks import check_field, check_inputs, overwrite_problems
from l2reg.registration.working_grid import on_grids, overlap_regions, working_batch
from l2reg.reporting.figures import pair_figure
from l2reg.reporting.registered_pair import RegisteredPair
from l2reg.runtime import select_device
from l2reg.shapes import Field, Image
from l2reg.transforms.itk import write_warp
from l2reg.transforms.warped_scan import write_warped_scan
from l2reg.transforms.world import voxel_map


@dataclass(frozen=True)
class RegistrationFiles:
    """The files of a registration.

    Attributes:
        warped: The moving scan in its own intensities, on the grid of the fixed scan; outside of
            the moving scan its lowest intensity, or -1024 HU in CT.
        transform: The displacement field in the form of ITK and ANTs.
        picture: Slices of both scans before and after registration.
    """

    warped: Path
    transform: Path
    picture: Path


def register(
    fixed: Path, moving: Path, out: Path, *, preset: str, device: str
) -> RegistrationFiles:
    """Register ``moving`` to ``fixed``, and write the warped scan, the transform and a picture.

    The headers give the initial alignment. ``model=convex`` and ``refine=gauss_newton``, with the
    settings of a task, find the field. Only the two images are read.

    Args:
        fixed: A NIfTI volume.
        moving: A NIfTI volume, whose grid may differ from that of ``fixed``.
        out: Folder for ``warped.nii.gz``, ``transform.nii.gz`` and ``picture.png``.
        preset: Task whose settings are used: ``abdomen`` for two modalities, ``lung`` for two CT,
            ``oasis`` for two MR of one sequence.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        InputError: Before anything is computed, if a file is unreadable, its header is sheared or
            invalid, a scan has fewer than 8 voxels along an axis or almost no contrast after the
            preset's normalisation, the scans hardly overlap, an output would replace an input, or
            ``out`` cannot be written to. After the computation, if the field leads out of the
            moving scan, as happens for scans of different parts of the body.
    """
    settings = build(load_preset("register", "default"))
    intensity = settings["intensity"][preset]
    files = RegistrationFiles(out / "warped.nii.gz", out / "transform.nii.gz", out / "picture.png")
    outputs = [files.warped, files.transform, files.picture]
    fixed_scan, moving_scan = scans = _read_scans([fixed, moving], outputs)
    initial = _tensor(voxel_map(fixed_scan.affine, moving_scan.affine))[0, :, :3].float()
    views = (_told_view(fixed, fixed_scan), _told_view(moving, moving_scan))
    regions = overlap_regions(views, initial)
    fixed_image, moving_image = images = [
        _tensor(intensity(scan.array, region if region.any() else None))
        for scan, region in zip(scans, regions, strict=True)
    ]
    shared_fraction = float(regions[0].sum() / views[0].sum())
    overlap = check_inputs(
        [fixed, moving],
        scans,
        images,
        initial,
        preset,
        settings["intensity"],
        shared_fraction=shared_fraction,
    )
    method = training_free_method(preset, select_device(device))
    ensure_writable(out)

    batch = working_batch(
        fixed_image,
        moving_image,
        initial,
        fixed_scan.spacing_mm,
        settings["max_voxels"],
        overlap=regions[0],
    )
    batches = [to_device(b, method.device) for b in on_grids(batch, method.grids)]
    i, j, k = batch["fixed"].shape[2:]
    disp = resize_field(method.solve(batches), (i, j, k)).cpu()
    i, j, k = fixed_scan.array.shape
    total = affine_after_field(initial, resize_field(disp, (i, j, k)))
    check_field(fixed, moving, total, moving_scan, overlap)

    place, kind = fixed_scan.place, moving_scan.voxel_type
    write_warped_scan(files.warped, moving_scan.array, kind, total, place)
    write_warp(files.transform, total[0].numpy(), place, moving_scan.affine)
    _draw(files.picture, batch, disp, warp_with_fill(moving_image, total, 0.0))
    return files


def _read_scans(paths: Sequence[Path], outputs: Sequence[Path]) -> list[Volume]:
    """Read scans, each file once.

    The faults of unreadable ones and of those that an output would replace are listed together.
    """
    scans: list[Volume] = []
    problems = overwrite_problems(paths, outputs)
    for path in paths:
        try:
            scans.append(read_volume(path))
        except InputError as error:
            problems += error.problems
    raise_if_any(problems)
    return scans


def _told_view(path: Path, scan: Volume) -> Region:
    """Return the field of view of a scan, and say which part of its volume is left out."""
    view = field_of_view(scan.array)
    if not view.all():
        tqdm.write(
            f"{path}: {100 * (1 - view.mean()):.0f} % of the volume is padding of intensity "
            f"{scan.array[~view][0]:g}, which is not compared"
        )
    return view


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array)[None, None]


def _draw(path: Path, batch: Batch, disp: Field, warped: Image) -> None:
    i, j, k = disp.shape[2:]
    no_labels = np.zeros((i, j, k), dtype=np.int16)
    i_mm, j_mm, k_mm = batch["spacing_mm"][0].tolist()
    registered = RegisteredPair(
        fixed=batch["fixed"][0, 0].numpy(),
        moving=batch["moving"][0, 0].numpy(),
        warped=resample(warped, (i, j, k))[0, 0].numpy(),
        disp=disp[0].numpy(),
        fixed_labels=no_labels,
        warped_labels=no_labels,
        spacing_mm=(i_mm, j_mm, k_mm),
    )
    with atomic_write(path) as temporary:
        pair_figure(registered, path.parent.name).savefig(temporary, format="png", dpi=70)
