"""Pairs with a known displacement whose moving scan is disturbed as strangers' scans are.

The fixed scan is the moving one, deformed by a smooth random field; then the moving scan is cut,
moved, turned, padded or changed in intensity. What is true of every voxel is known by construction.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

from l2reg.phantom.make import make_phantom

DISPLACEMENT_MM = 4.0  # standard deviation along each axis
SMOOTHNESS_MM = 20.0  # standard deviation of the Gaussian that smooths it


@dataclass(frozen=True)
class Scan:
    """Intensities, and the map from voxels to RAS millimetres."""

    array: np.ndarray
    affine: np.ndarray

    def save(self, path: Path) -> None:
        """Write a NIfTI file."""
        nib.save(nib.Nifti1Image(self.array.astype(np.float32), self.affine), path)


@dataclass(frozen=True)
class DisturbedPair:
    """A pair, and what is true of it.

    Attributes:
        fixed: The fixed scan.
        moving: The moving scan.
        truth: True position in RAS millimetres of the moving scan, for every fixed voxel.
        region: Fixed voxels of the body.
    """

    fixed: Scan
    moving: Scan
    truth: np.ndarray
    region: np.ndarray


@dataclass(frozen=True)
class Base:
    """A scan that pairs are made from; ``like`` is the preset it is registered with."""

    scan: Scan
    like: str
    air: float


def bases(folder: Path) -> dict[str, Base]:
    """Return scans by name: phantoms, and real ones if L2REG_DATA names them."""
    found: dict[str, Base] = {}
    files = {
        "lung": ("lung", "task_02/training/scans/case_001_insp.nii.gz", "lung", -1000.0),
        "brain": ("oasis", "task_03/*/aligned_norm.nii.gz", "oasis", 0.0),
        "abdomen": ("abdomen", "task_01/Train/img0002_tcia_MR.nii.gz", "abdomen", 0.0),
    }
    for name, (flavour, pattern, like, air) in files.items():
        root = folder / "phantoms" / flavour
        if not root.exists():
            make_phantom(flavour, root, n_pairs=1, size="small", seed=7)
        phantom = sorted(root.glob(pattern.replace("img0002", "img*")))[0]
        found[f"phantom {name}"] = Base(load(phantom, 1), like, air)
    root = Path(os.environ.get("L2REG_DATA", "-"))
    if root.is_dir():
        for name, (_, pattern, like, air) in files.items():
            found[f"real {name}"] = Base(load(sorted(root.glob(pattern))[0], 2), like, air)
    return found


def load(path: Path, step: int) -> Scan:
    """Return a scan, smoothed and sampled at every ``step``-th voxel."""
    image = nib.Nifti1Image.from_filename(path)
    array = image.get_fdata().astype(np.float32)
    if step > 1:
        array = gaussian_filter(array, 0.425 * step)[::step, ::step, ::step]
    return Scan(array, image.affine @ np.diag([step, step, step, 1.0]))


def deformed(base: Base, seed: int) -> DisturbedPair:
    """Return the undisturbed pair."""
    scan, random = base.scan, np.random.default_rng(seed)
    spacing = np.linalg.norm(scan.affine[:3, :3], axis=0)
    noise = random.standard_normal((3, *scan.array.shape))
    smooth = [gaussian_filter(part, SMOOTHNESS_MM / spacing) for part in noise]
    field_mm = np.stack([part / part.std() * DISPLACEMENT_MM for part in smooth])
    positions = np.indices(scan.array.shape) + field_mm / spacing[:, None, None, None]
    fixed = map_coordinates(scan.array, positions, order=1, mode="nearest")
    bright = np.percentile(scan.array, 99) - base.air
    region = gaussian_filter(fixed, 1) > base.air + (0.4 if base.air < 0 else 0.1) * bright
    return DisturbedPair(replace(scan, array=fixed), scan, to_world(scan.affine, positions), region)


def to_world(affine: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return positions in millimetres, components first."""
    turned = np.tensordot(affine[:3, :3], positions, 1)
    world: np.ndarray = turned + affine[:3, 3].reshape(3, 1, 1, 1)
    return world


def crop(axis: int, low: float, high: float) -> Callable[[DisturbedPair, Base], DisturbedPair]:
    """Cut the moving scan to a part of its length along an axis."""

    def disturb(pair: DisturbedPair, base: Base) -> DisturbedPair:
        del base
        size = pair.moving.array.shape[axis]
        first, last = round(low * size), round(high * size)
        array = np.take(pair.moving.array, np.arange(first, last), axis)
        shift = np.eye(4)
        shift[axis, 3] = first
        return replace(pair, moving=Scan(array, pair.moving.affine @ shift))

    return disturb


def move(
    angles_deg: tuple[float, ...], shift_mm: tuple[float, ...]
) -> Callable[[DisturbedPair, Base], DisturbedPair]:
    """Turn the header of the moving scan about its centre and shift it; the voxels stay."""

    def disturb(pair: DisturbedPair, base: Base) -> DisturbedPair:
        del base
        affine = pair.moving.affine
        centre = affine[:3, :3] @ ((np.array(pair.moving.array.shape) - 1) / 2) + affine[:3, 3]
        turn = np.eye(4)
        turn[:3, :3] = Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix()
        turn[:3, 3] = centre - turn[:3, :3] @ centre + shift_mm
        moving = Scan(pair.moving.array, turn @ affine)
        return replace(pair, moving=moving, truth=to_world(turn, pair.truth))

    return disturb


def change(
    function: Callable[[np.ndarray, Base], np.ndarray],
) -> Callable[[DisturbedPair, Base], DisturbedPair]:
    """Change the intensities of the moving scan."""

    def disturb(pair: DisturbedPair, base: Base) -> DisturbedPair:
        return replace(pair, moving=replace(pair.moving, array=function(pair.moving.array, base)))

    return disturb


def blank(axis: int, low: float, high: float) -> Callable[[DisturbedPair, Base], DisturbedPair]:
    """Blank the moving scan beyond a part of its length along an axis; the volume stays."""

    def disturb(pair: DisturbedPair, base: Base) -> DisturbedPair:
        size = pair.moving.array.shape[axis]
        at = np.indices(pair.moving.array.shape)[axis]
        return pad(pair, base, (at >= round(low * size)) & (at < round(high * size)))

    return disturb


def pad_circle(pair: DisturbedPair, base: Base) -> DisturbedPair:
    """Replace what lies outside a scanner's circle that cuts the body."""
    array = pair.moving.array
    i, j, _ = np.indices(array.shape)
    a, b = ((n - 1) / 2 for n in array.shape[:2])
    return pad(pair, base, np.hypot((i - a) / a, (j - b) / b) <= 0.75)


def pad(pair: DisturbedPair, base: Base, inside: np.ndarray) -> DisturbedPair:
    """Replace what lies outside a part of the moving scan by one value."""
    affine = pair.moving.affine
    padded = np.where(inside, pair.moving.array, -3024.0 if base.air < 0 else 0.0)
    inverse = np.linalg.inv(affine)
    shown = map_coordinates(inside.astype(float), to_world(inverse, pair.truth), order=1) > 0.99
    return replace(pair, moving=Scan(padded, affine), region=pair.region & shown)


def contrast(array: np.ndarray, base: Base) -> float:
    """Return the range of intensities that the other changes are relative to."""
    return float(np.percentile(array, 99)) - base.air


def add_noise(array: np.ndarray, base: Base) -> np.ndarray:
    """Add Gaussian noise of 5 % of the contrast."""
    noise = np.random.default_rng(11).standard_normal(array.shape)
    return array + 0.05 * contrast(array, base) * noise


def lift(array: np.ndarray, base: Base) -> np.ndarray:
    """Add a tenth of the contrast, after threefold gain where units are arbitrary."""
    return (3.0 if base.air == 0 else 1.0) * array + 0.1 * contrast(array, base)


def ramp(array: np.ndarray, base: Base) -> np.ndarray:
    """Multiply the signal by a ramp from 0.6 to 1.4 along the second axis."""
    factor = np.linspace(0.6, 1.4, array.shape[1])[None, :, None]
    return base.air + (array - base.air) * factor


def invert(array: np.ndarray, base: Base) -> np.ndarray:
    """Make bright what is dark; air stays."""
    top = base.air + contrast(array, base)
    inside = array > base.air + 0.05 * contrast(array, base)
    return np.where(
        inside, top + base.air - np.minimum(array, top) + 0.1 * contrast(array, base), array
    )


def coarse_fixed(pair: DisturbedPair, base: Base) -> DisturbedPair:
    """Sample the fixed scan at every third voxel."""
    del base
    array = gaussian_filter(pair.fixed.array, 0.425 * 3)[::3, ::3, ::3]
    affine = pair.fixed.affine @ np.diag([3.0, 3, 3, 1])
    parts = np.s_[::3, ::3, ::3]
    return replace(
        pair,
        fixed=Scan(array, affine),
        truth=pair.truth[(slice(None), *parts)],
        region=pair.region[parts],
    )


def thick_slices(pair: DisturbedPair, base: Base) -> DisturbedPair:
    """Give the moving scan slices of four voxels along the third axis."""
    del base
    array = gaussian_filter(pair.moving.array, (0, 0, 1.7))[:, :, ::4]
    return replace(pair, moving=Scan(array, pair.moving.affine @ np.diag([1.0, 1, 4, 1])))


Disturbance = Callable[[DisturbedPair, Base], DisturbedPair]
DISTURBANCES: dict[str, Disturbance] = {
    "none": change(lambda array, _: array),
    "cut to 60 % along i": crop(0, 0.2, 0.8),
    "cut to 60 % along j": crop(1, 0.0, 0.6),
    "cut to 40 % along k": crop(2, 0.3, 0.7),
    "shifted by 45 mm": move((0, 0, 0), (45, 0, 0)),
    "turned by 20 degrees": move((0, 0, 20), (0, 0, 0)),
    "turned by 35 degrees and shifted by 70 mm": move((15, -10, 30), (40, -50, 30)),
    "three times finer than the fixed scan": coarse_fixed,
    "slices of four voxels": thick_slices,
    "padded outside a circle": pad_circle,
    "blank beyond 60 % along j": blank(1, 0.0, 0.6),
    "blank beyond 40 % along k": blank(2, 0.3, 0.7),
    "noise": change(add_noise),
    "gain and offset": change(lift),
    "bias from 0.6 to 1.4": change(ramp),
    "inverted contrast": change(invert),
}
