"""Register two files that belong to no data set: any grids, any headers, nothing trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from l2reg.batch import Batch, resize_batch, to_device
from l2reg.config.build import build
from l2reg.config.presets import load_preset
from l2reg.data.intensity import Intensity, Percentiles
from l2reg.geometry.affine import affine_after_field, affine_field
from l2reg.geometry.resize import resize_field, resize_image, voxel_ratio
from l2reg.geometry.warp import warp
from l2reg.inference.prepare import task_refinement
from l2reg.io.files import atomic_write, ensure_writable
from l2reg.io.volumes import read_affine, read_header, read_image, write_volume
from l2reg.problems import InputError, Problem, raise_if_any
from l2reg.reporting.figures import pair_figure
from l2reg.reporting.registered_pair import RegisteredPair
from l2reg.runtime import select_device
from l2reg.shapes import Affine, Field, Shape3
from l2reg.transforms.itk import write_warp

PRESETS = ("abdomen", "lung", "oasis")

_MOST_VOXELS = 8_000_000  # of the grid that is optimised on; larger scans are sampled down to it
_LEAST_VOXELS = 8  # along an axis; with 5 the search missed a shift by one voxel altogether
_LEAST_OVERLAP = 0.1
_LEAST_KEPT = 0.3  # of that overlap, once registered
_LEAST_RANGE = 0.1  # of [0, 1], the intensities that a registration sees
_FITS = "lung is for CT in Hounsfield units, abdomen and oasis for any scan whose outside is 0"
_ANY_SCAN = Percentiles(low=0.5, high=99.5)


@dataclass(frozen=True)
class RegistrationFiles:
    """The files of a registration."""

    warped: Path
    transform: Path
    picture: Path


def register(
    fixed: Path, moving: Path, out: Path, *, preset: str, device: str
) -> RegistrationFiles:
    """Bring ``moving`` onto ``fixed`` and write the result.

    The headers say how the scans lie to each other; what is left is found by ``model=convex`` and
    ``refine=gauss_newton`` with the settings of a task. Nothing but the two images is read.

    Args:
        fixed: A NIfTI volume.
        moving: Another one; its grid may differ.
        out: Folder for ``warped.nii.gz`` (the moving scan in its own intensities on the fixed
            grid), ``transform.nii.gz`` (as ITK and ANTs read it) and ``picture.png``.
        preset: Task whose settings fit: ``abdomen`` for two modalities, ``lung`` for two CT,
            ``oasis`` for two MR of one sequence.
        device: As ``select_device`` takes it.

    Raises:
        InputError: If a file is unreadable, a scan has fewer than 8 voxels along an axis or almost
            no contrast as the preset sees it, the headers put the scans apart, or ``out`` cannot be
            written to: before anything is computed. Or if the field found leads out of the moving
            scan, as for two scans that show different things.
    """
    paths = fixed, moving
    affines = read_affine(fixed), read_affine(moving)
    raise_if_any(problem for path in paths for problem in _too_small(path))
    images = [read_image(path) for path in paths]
    between = torch.from_numpy(np.linalg.inv(affines[1]) @ affines[0])[None, :3].float()
    raw = [torch.from_numpy(image)[None, None] for image in images]
    i, j, k = images[0].shape
    overlap = _inside(affine_field(between, (i, j, k)), raw[1])
    _check_overlap(overlap, fixed, moving)
    seen = [torch.from_numpy(_intensity(preset)(image))[None, None] for image in images]
    raise_if_any(
        problem
        for path, image, shown in zip(paths, images, seen, strict=True)
        for problem in _without_contrast(path, image, shown, preset)
    )
    where = select_device(device)
    ensure_writable(out)
    batch = _batch(seen, between, affines[0])
    disp = _registered(to_device(batch, where), preset).cpu()
    total = affine_after_field(between, resize_field(disp, (i, j, k)))
    _check_kept(_inside(total, raw[1]), overlap, fixed, moving)
    warped = warp(raw[1], total)[0, 0].numpy()
    written = RegistrationFiles(
        out / "warped.nii.gz", out / "transform.nii.gz", out / "picture.png"
    )
    write_volume(written.warped, warped, affines[0])
    write_warp(written.transform, total[0].numpy(), *affines)
    _draw(written.picture, batch, disp)
    return written


def _too_small(path: Path) -> list[Problem]:
    shape = read_header(path).shape
    if min(shape) >= _LEAST_VOXELS:
        return []
    return [
        Problem(
            where=str(path),
            what="is too small to be registered",
            expected=f"at least {_LEAST_VOXELS} voxels along each axis",
            found=" x ".join(map(str, shape)),
            remedy="name the whole scan, or sample it on a finer grid",
        )
    ]


def _without_contrast(
    path: Path, image: np.ndarray, shown: torch.Tensor, preset: str
) -> list[Problem]:
    if float(shown.max() - shown.min()) >= _LEAST_RANGE:
        return []
    fitting = [p for p in PRESETS if np.ptp(_intensity(p)(image)) >= _LEAST_RANGE]
    remedy = (
        "try " + " or ".join(f"--like {p}" for p in fitting) if fitting else "name another file"
    )
    return [
        Problem(
            where=str(path),
            what=f"shows nothing with --like {preset}",
            expected=f"contrast within {_intensity(preset)}",
            found=f"intensities from {image.min():.4g} to {image.max():.4g}",
            remedy=f"{remedy}; {_FITS}",
        )
    ]


def _inside(field: Field, moving: torch.Tensor) -> float:
    """Return the share of the fixed volume that is looked up within the moving one."""
    return float(warp(torch.ones_like(moving), field, padding="zeros").mean())


def _check_kept(inside: float, overlap: float, fixed: Path, moving: Path) -> None:
    if inside < _LEAST_KEPT * overlap:
        raise InputError(
            Problem(
                where=str(moving),
                what=f"could not be registered to {fixed}",
                expected="a field that leads into the moving scan",
                found=f"{100 * inside:.0f} % of the fixed volume lands within the moving one, "
                f"{100 * overlap:.0f} % as the headers put them",
                remedy="look whether both show the same part of a body, or try another --like",
            )
        )


def _check_overlap(inside: float, fixed: Path, moving: Path) -> None:
    if inside < _LEAST_OVERLAP:
        raise InputError(
            Problem(
                where=str(moving),
                what=f"lies elsewhere than {fixed}",
                expected="headers that put both scans at the same place",
                found=f"{100 * inside:.0f} % of the fixed volume lies within the moving one",
                remedy="correct the origin or orientation in a header, or align the scans roughly",
            )
        )


def _batch(images: list[torch.Tensor], between: Affine, affine: np.ndarray) -> Batch:
    """Return the pair as a model sees it, the moving scan moved as the headers say."""
    fixed, moving = images
    i, j, k = fixed.shape[2:]
    aligned = warp(moving, affine_field(between, (i, j, k)), padding="zeros")
    shape = _working_shape((i, j, k))
    spacing = torch.from_numpy(np.linalg.norm(affine[:3, :3], axis=0))[None].float()
    ones = torch.ones(1, 1, *shape)
    return {
        "fixed": resize_image(fixed, shape),
        "moving": resize_image(aligned, shape),
        "fixed_mask": ones,
        "moving_mask": ones,
        "spacing_mm": spacing * spacing.new_tensor(voxel_ratio(shape, (i, j, k))),
    }


def _intensity(preset: str) -> Intensity:
    if preset != "lung":
        return _ANY_SCAN
    window: Intensity = build(load_preset("task", preset)["intensity"]["CT"])
    return window


def _working_shape(shape: Shape3) -> Shape3:
    factor = max(1.0, (float(np.prod(shape)) / _MOST_VOXELS) ** (1 / 3))
    i, j, k = (max(2, round(size / factor)) for size in shape)
    return (i, j, k)


def _half_shape(shape: Shape3, spacing_mm: Sequence[float]) -> Shape3:
    """Return half of each size, but for thick slices: voxels twice as long as they are wide."""
    thick = [mm >= 2 * min(spacing_mm) for mm in spacing_mm]
    i, j, k = (n if keep else (n + 1) // 2 for n, keep in zip(shape, thick, strict=True))
    return (i, j, k)


def _registered(batch: Batch, preset: str) -> Field:
    """Return the field on the grid of ``batch``: searched on its half grid, refined on either."""
    i, j, k = batch["fixed"].shape[2:]
    half_shape = _half_shape((i, j, k), batch["spacing_mm"][0].tolist())
    half = resize_batch(batch, half_shape, masks="nearest")
    disp = build(load_preset("model", "convex"))(half).disp
    refine = task_refinement(preset)
    working = half if refine.grid == "half" else batch
    return resize_field(refine(working, disp), (i, j, k))


def _shape(batch: Batch) -> Shape3:
    i, j, k = batch["fixed"].shape[2:]
    return (i, j, k)


def _draw(path: Path, batch: Batch, disp: Field) -> None:
    nothing = np.zeros(disp.shape[2:], dtype=np.int16)
    i_mm, j_mm, k_mm = batch["spacing_mm"][0].tolist()
    shown = RegisteredPair(
        fixed=batch["fixed"][0, 0].numpy(),
        moving=batch["moving"][0, 0].numpy(),
        warped=warp(batch["moving"], disp)[0, 0].numpy(),
        disp=disp[0].numpy(),
        fixed_labels=nothing,
        warped_labels=nothing,
        spacing_mm=(i_mm, j_mm, k_mm),
    )
    with atomic_write(path) as draft:
        pair_figure(shown, path.parent.name).savefig(draft, format="png", dpi=70)
