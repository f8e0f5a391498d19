"""Where other tools move voxels by the transforms that l2reg writes, and l2reg by theirs, in mm.

python -m benchmarks.studies.transform_peers write OUT
PEER_PYTHON benchmarks/studies/transform_peers.py read OUT     # any Python that has some of them
python -m benchmarks.studies.transform_peers back OUT

Four pairs of oblique, anisotropic grids, right- and left-handed, a smooth field and an affine map.
The moving scans are ramps, whose intensity is the position along R, A or S in mm: resampled they
say where a tool looks. Printed is the largest distance from where l2reg looks, over all voxels
that lie inside the moving scan. Peers: SimpleITK, picsl_greedy, antspyx, nitransforms, fslpy.
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

FILES = {  # by kind of transform: forms and names
    "field": [("itk", "field.h5"), ("itk", "field.nii.gz"), ("fsl", "fnirt.nii.gz")],
    "affine": [("itk", "affine.mat"), ("itk", "affine.tfm"), ("greedy", "greedy.mat"),
               ("fsl", "flirt.mat")],
}  # fmt: skip
SHAPES = (26, 30, 24), (40, 28, 44)
Look = Callable[[Path, str], np.ndarray]  # folder and file to moving positions, (n, 3), RAS mm


def oblique(spacing: tuple[float, float, float], flip: bool) -> np.ndarray:
    """Return an affine that turns about two axes."""
    a, b = 0.3, -0.2
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ tilt @ np.diag(spacing) @ np.diag([-1.0 if flip else 1.0, 1, 1])
    return affine


def centred(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """Return an affine that has the middle of the grid at (5, -7, 3)."""
    affine[:3, 3] = (5, -7, 3) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def write(out: Path) -> None:
    """Write the pairs, their transforms, and where l2reg looks."""
    from l2reg.registration.transform_scans import read_scans_of  # noqa: PLC0415
    from l2reg.registration.transform_writer import write_transform  # noqa: PLC0415
    from l2reg.transforms.world_transform import (  # noqa: PLC0415
        AffineMap,
        DisplacementMap,
        WorldTransform,
    )

    matrix = np.eye(4)
    matrix[:3] += 0.04 * np.random.default_rng(0).normal(size=(3, 4))
    matrix[:3, 3] = 2, -1, 0.5
    for fixed_flip, moving_flip in product([False, True], repeat=2):
        folder = out / f"{'LR'[not fixed_flip]}{'LR'[not moving_flip]}"
        folder.mkdir(parents=True, exist_ok=True)
        places = (
            centred(SHAPES[0], oblique((1.5, 1.0, 2.0), fixed_flip)),
            centred(SHAPES[1], oblique((1.2, 1.4, 1.1), moving_flip)),
        )
        nib.save(
            nib.Nifti1Image(np.zeros(SHAPES[0], np.float32), places[0]), folder / "fixed.nii.gz"
        )
        positions = nib.affines.apply_affine(
            places[1], np.moveaxis(np.indices(SHAPES[1]), 0, -1)
        ).astype(np.float32)
        for axis, name in enumerate("xyz"):
            image = nib.Nifti1Image(positions[..., axis], places[1])
            nib.save(image, folder / f"{name}.nii.gz")
        scans = read_scans_of(folder / "fixed.nii.gz", folder / "x.nii.gz")
        fixed, _ = scans.both("")
        i, j, k = np.indices(fixed.shape) / 7.0
        disp = np.stack([np.sin(i + j), 1.5 * np.cos(j - k), 2 * np.sin(k) * np.cos(i)])
        steps: dict[str, DisplacementMap | AffineMap] = {
            "field": DisplacementMap(disp, fixed.place),
            "affine": AffineMap(matrix),
        }
        for kind, step in steps.items():
            np.save(folder / f"{kind}.npy", WorldTransform((step,))(fixed.points()).T)
            for form, name in FILES[kind]:
                write_transform(folder / name, WorldTransform((step,)), form, scans)
        np.save(folder / "matrix.npy", matrix)


def errors(out: Path, kind: str, name: str, look: Look) -> Iterator[float]:
    """Yield the largest distance of each pair."""
    for folder in sorted(path for path in out.iterdir() if path.is_dir()):
        expected = np.load(folder / f"{kind}.npy", allow_pickle=False)
        moving = nib.Nifti1Image.from_filename(folder / "x.nii.gz")
        voxels = nib.affines.apply_affine(np.linalg.inv(moving.affine), expected)
        inside = ((voxels > 0.1) & (voxels < np.array(moving.shape) - 1.1)).all(axis=1)
        assert inside.sum() > 5000
        yield float(np.linalg.norm(look(folder, name) - expected, axis=1)[inside].max())


def simpleitk(folder: Path, name: str) -> np.ndarray:
    """Resample the ramps with SimpleITK."""
    sitk: Any = importlib.import_module("SimpleITK")
    if name.endswith(".nii.gz"):
        field = sitk.ReadImage(str(folder / name), sitk.sitkVectorFloat64)
        transform = sitk.DisplacementFieldTransform(field)
    else:
        transform = sitk.ReadTransform(str(folder / name))
    fixed = sitk.ReadImage(str(folder / "fixed.nii.gz"))
    ramps = [
        sitk.Resample(sitk.ReadImage(str(folder / f"{axis}.nii.gz")), fixed, transform)
        for axis in "xyz"
    ]
    return np.stack([sitk.GetArrayFromImage(ramp).T.ravel() for ramp in ramps], axis=1)


def greedy(folder: Path, name: str) -> np.ndarray:
    """Resample the ramps with greedy."""
    package: Any = importlib.import_module("picsl_greedy")
    ramps = []
    for axis in "xyz":
        target = folder / "greedy_out.nii.gz"
        package.Greedy3D().execute(
            f"-d 3 -rf {folder}/fixed.nii.gz -rm {folder}/{axis}.nii.gz {target} -r {folder / name}"
        )
        ramps.append(nib.Nifti1Image.from_filename(target).get_fdata().ravel())
    return np.stack(ramps, axis=1)


def ants(folder: Path, name: str) -> np.ndarray:
    """Resample the ramps with ANTs."""
    package: Any = importlib.import_module("ants")
    fixed = package.image_read(str(folder / "fixed.nii.gz"))
    ramps = [
        package.apply_transforms(
            fixed, package.image_read(str(folder / f"{axis}.nii.gz")), [str(folder / name)]
        ).numpy()
        for axis in "xyz"
    ]
    return np.stack([ramp.ravel() for ramp in ramps], axis=1)


def nitransforms(folder: Path, name: str) -> np.ndarray:
    """Map the voxels with nitransforms; it also writes its affine map as ``.lta``."""
    package: Any = importlib.import_module("nitransforms")
    form = "fsl" if name.startswith(("fnirt", "flirt")) else "itk"
    fixed, moving = folder / "fixed.nii.gz", folder / "x.nii.gz"
    if name == "flirt.mat":
        transform = package.linear.load(folder / name, fmt="fsl", reference=fixed, moving=moving)
    elif name.endswith(".tfm"):
        transform = package.linear.load(folder / name, fmt="itk", reference=fixed)
        matrix = np.load(folder / "matrix.npy", allow_pickle=False)
        package.linear.Affine(matrix, reference=fixed).to_filename(
            folder / "nitransforms.lta", fmt="fs", moving=moving
        )
    else:
        transform = package.nonlinear.load(folder / name, fmt=form)
    image = nib.Nifti1Image.from_filename(fixed)
    voxels = np.indices(image.shape).reshape(3, -1).T
    moved: np.ndarray = transform.map(nib.affines.apply_affine(image.affine, voxels))
    return moved


def fslpy(folder: Path, name: str) -> np.ndarray:
    """Map the voxels with fslpy, the Python library of FSL."""
    image: Any = importlib.import_module("fsl.data.image").Image
    fixed, moving = image(str(folder / "fixed.nii.gz")), image(str(folder / "x.nii.gz"))
    voxels = np.indices(fixed.shape).reshape(3, -1).T
    world = nib.affines.apply_affine(fixed.voxToWorldMat, voxels)
    if name == "flirt.mat":
        flirt: Any = importlib.import_module("fsl.transform.flirt")
        to_fixed = flirt.fromFlirt(np.loadtxt(folder / name), moving, fixed, "world", "world")
        turned: np.ndarray = nib.affines.apply_affine(np.linalg.inv(to_fixed), world)
        return turned
    fnirt: Any = importlib.import_module("fsl.transform.fnirt")
    field = fnirt.readFnirt(str(folder / name), moving, fixed, defType="relative")
    moved: np.ndarray = field.transform(world, "world", "world")
    return moved


PEERS: dict[str, tuple[str, Look, list[str]]] = {  # package, reader, files
    "SimpleITK": ("SimpleITK", simpleitk,
                  ["field.h5", "field.nii.gz", "affine.mat", "affine.tfm"]),
    "greedy": ("picsl_greedy", greedy, ["field.nii.gz", "greedy.mat"]),
    "ANTs": ("ants", ants, ["field.h5", "field.nii.gz", "affine.mat"]),
    "nitransforms": ("nitransforms", nitransforms,
                     ["affine.tfm", "flirt.mat", "field.nii.gz", "fnirt.nii.gz"]),
    "fslpy": ("fsl.transform", fslpy, ["flirt.mat", "fnirt.nii.gz"]),
}  # fmt: skip


def read(out: Path) -> None:
    """Print the errors of the peers that are installed."""
    kinds = {name: kind for kind, files in FILES.items() for _, name in files}
    for peer, (package, look, names) in PEERS.items():
        try:
            importlib.import_module(package)
        except ImportError:
            print(f"{peer}: not installed")
            continue
        for name in names:
            found = " ".join(f"{error:.1e}" for error in errors(out, kinds[name], name, look))
            print(f"{peer:13} {name:13} {found} mm")


def back(out: Path) -> None:
    """Print the errors of l2reg for the ``.lta`` files that nitransforms wrote."""
    from l2reg.registration.transform_reader import read_transform  # noqa: PLC0415
    from l2reg.registration.transform_scans import read_scans_of  # noqa: PLC0415

    def look(folder: Path, name: str) -> np.ndarray:
        scans = read_scans_of(folder / "fixed.nii.gz", folder / "x.nii.gz")
        fixed, _ = scans.both("")
        return read_transform(folder / name, scans)(fixed.points()).T

    found = " ".join(f"{e:.1e}" for e in errors(out, "affine", "nitransforms.lta", look))
    print(f"l2reg         nitransforms.lta {found} mm")


if __name__ == "__main__":
    {"write": write, "read": read, "back": back}[sys.argv[1]](Path(sys.argv[2]))
