"""Register two files with another package, and write ``transform.nii.gz`` as ITK reads it.

python -m benchmarks.studies.robustness_peers greedy fixed.nii.gz moving.nii.gz OUT

It needs the package, nibabel and NumPy alone, so that it runs in an environment of its own. Each is
run as its documentation says: a rigid or affine map first, then a deformation.
"""

import sys
from pathlib import Path

import nibabel as nib
import numpy as np

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def greedy(fixed: str, moving: str, out: Path, threads: str) -> np.ndarray:
    """Run greedy: rigid, from the headers, then deformable, both by NCC.

    Of its starts (headers, centres, random maps) and metrics this did best on the phantom lung.
    """
    from picsl_greedy import Greedy3D  # noqa: PLC0415

    affine, warp = out / "affine.mat", out / "warp.nii.gz"
    both = f"-d 3 -i {fixed} {moving} -n 100x50x10 -threads {threads}"
    Greedy3D().execute(f"{both} -a -dof 6 -m NCC 4x4x4 -ia-identity -o {affine}")
    Greedy3D().execute(f"{both} -m NCC 2x2x2 -it {affine} -wp 0 -o {warp}")
    matrix = LPS @ np.loadtxt(affine) @ LPS
    image = nib.Nifti1Image.from_filename(warp)
    vectors = np.squeeze(image.get_fdata())
    world = grid(fixed)
    moved = world + vectors
    total: np.ndarray = moved @ matrix[:3, :3].T + matrix[:3, 3] - world
    return total


def elastix(fixed: str, moving: str, _: Path, threads: str) -> np.ndarray:
    """Run elastix with its default parameters: translation, affine, B-splines."""
    import itk  # noqa: PLC0415

    parameters = itk.ParameterObject.New()
    for name in ("translation", "affine", "bspline"):
        parameters.AddParameterMap(parameters.GetDefaultParameterMap(name))
    images = [itk.imread(path, itk.F) for path in (fixed, moving)]
    _, result = itk.elastix_registration_method(
        *images, parameter_object=parameters, number_of_threads=int(threads), log_to_console=False
    )
    field = itk.transformix_deformation_field(images[1], result)
    vectors: np.ndarray = itk.array_from_image(field).transpose(2, 1, 0, 3)
    return vectors


def grid(path: str) -> np.ndarray:
    """Return the position of every voxel in LPS millimetres, components last."""
    image = nib.Nifti1Image.from_filename(path)
    affine = LPS @ image.affine
    positions = np.moveaxis(np.indices(image.shape), 0, -1)
    world: np.ndarray = positions @ affine[:3, :3].T + affine[:3, 3]
    return world


def main() -> None:
    """Register and write."""
    peer, fixed, moving, folder, threads = sys.argv[1:]
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    vectors = {"greedy": greedy, "elastix": elastix}[peer](fixed, moving, out, threads)
    affine = nib.Nifti1Image.from_filename(fixed).affine
    image = nib.Nifti1Image(vectors[:, :, :, None].astype(np.float32), affine)
    image.header.set_intent("vector")
    nib.save(image, out / "transform.nii.gz")


if __name__ == "__main__":
    main()
