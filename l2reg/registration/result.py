"""Result of a registration: the transform, and what it does to scans, labels and points."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal, get_args

import nibabel as nib
import numpy as np
import torch
from jaxtyping import Float32, Float64
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from l2reg.geometry.jacobian import jacobian_determinant
from l2reg.io.scan_source import ScanInput, ScanSource, as_source
from l2reg.io.volumes import Volume, write_volume
from l2reg.problems import InputError, Problem
from l2reg.registration.annotations import Scores
from l2reg.registration.outputs import DPI
from l2reg.registration.transform_scans import TransformScans, read_scans_of
from l2reg.registration.transform_writer import write_transform
from l2reg.registration.verdict import Verdict
from l2reg.registration.warp_files import (
    label_interpolation,
    resample_labels,
    resample_scan,
    scan_interpolation,
    warn_of_inversion,
)
from l2reg.reporting.figures import pair_figure
from l2reg.reporting.registered_pair import RegisteredPair
from l2reg.transforms.image_grid import ImageGrid
from l2reg.transforms.itk import write_warp
from l2reg.transforms.matrices import write_matrix
from l2reg.transforms.warped_scan import LabelInterpolation, ScanInterpolation, write_warped_scan
from l2reg.transforms.world_transform import AffineMap, DisplacementMap, WorldTransform

Extra = Literal["inverse", "jacobian", "initial", "deformable"]
EXTRAS: tuple[Extra, ...] = get_args(Extra)
_SUFFIXES = {"initial": ".mat"}


@dataclass(frozen=True)
class RegistrationFiles:
    """Files of a registration.

    Attributes:
        warped: The moving scan in its own intensities, on the grid of the fixed scan; outside of
            the moving scan its lowest intensity, or -1024 HU in CT.
        transform: The displacement field in the form of ITK and ANTs.
        picture: Slices of both scans before and after registration.
        report: Settings, initial map, scores and verdict as JSON.
        inverse: The transform from moving to fixed positions, if asked for.
        jacobian: Volume in the moving scan per volume in the fixed scan, if asked for: 1 where it
            is kept, 0 or less where the deformation folds.
        initial: The map that the registration started from, if asked for: 4 x 4, RAS mm, as of
            greedy.
        deformable: The field before that map, if asked for: fixed positions pass through it first.
    """

    warped: Path
    transform: Path
    picture: Path
    report: Path
    inverse: Path | None = None
    jacobian: Path | None = None
    initial: Path | None = None
    deformable: Path | None = None

    @property
    def paths(self) -> list[Path]:
        """All files."""
        return [path for path in vars(self).values() if path is not None]


def output_files(folder: Path, save: Sequence[Extra]) -> RegistrationFiles:
    """Return the files that a registration writes to a folder."""
    return RegistrationFiles(
        folder / "warped.nii.gz",
        folder / "transform.nii.gz",
        folder / "picture.png",
        folder / "registration.json",
        **{name: folder / f"{name}{_SUFFIXES.get(name, '.nii.gz')}" for name in save},
    )


def write_scans(
    files: RegistrationFiles, field: DisplacementMap, moving: Volume, moving_grid: ImageGrid
) -> None:
    """Write the warped scan, the transform and what was asked for besides.

    Args:
        files: Where to.
        field: The field.
        moving: The moving scan.
        moving_grid: Its grid.
    """
    transform, place = WorldTransform((field,)), field.place
    disp = torch.from_numpy(transform.voxel_field(field.grid, moving.affine))[None]
    write_warped_scan(files.warped, moving.array, moving.voxel_type, disp, place)
    write_warp(files.transform, field)
    if files.inverse is not None:
        warn_of_inversion(transform.inverse, moving_grid.points())
        write_warp(files.inverse, transform.inverse.on_grid(moving_grid))
    if files.jacobian is not None:
        write_volume(files.jacobian, volume_change(field), place)


def write_stages(files: RegistrationFiles, initial: AffineMap, deformable: DisplacementMap) -> None:
    """Write the two stages of a registration, those that were asked for.

    Args:
        files: Where to.
        initial: The map that the registration started from.
        deformable: The field that fixed positions pass through before that map.
    """
    if files.initial is not None:
        write_matrix(files.initial, initial.matrix)
    if files.deformable is not None:
        write_warp(files.deformable, deformable)


def volume_change(field: DisplacementMap) -> Float32[np.ndarray, "i j k"]:
    """Return the determinant of the Jacobian in the world; faces have that of their neighbours."""
    linear = np.linalg.inv(field.place.affine[:3, :3])
    disp = np.einsum("cd,dijk->cijk", linear, field.disp_mm)
    determinant = jacobian_determinant(torch.from_numpy(disp)[None].float())[0].numpy()
    return np.pad(determinant, 1, mode="edge")


@dataclass(frozen=True)
class Registration:
    """Registration of two scans.

    Attributes:
        moving: The moving scan.
        scans: Grids of the fixed and of the moving scan.
        transform: Map from fixed to moving positions.
        verdict: What can be told about it without ground truth.
        scores: Scores ``before``, by the headers alone, and ``after``; none without labels and
            landmarks.
        fit: The same of labels and landmarks that were used, which measures nothing else.
        picture: What ``show`` draws.
        picture_grid: Grid that this lies on.
        files: The files that were written; none if no folder was named.
    """

    moving: ScanSource
    scans: TransformScans
    transform: WorldTransform
    verdict: Verdict
    scores: dict[str, Scores]
    fit: dict[str, Scores]
    picture: RegisteredPair
    picture_grid: ImageGrid
    files: RegistrationFiles | None

    @property
    def inverse(self) -> WorldTransform:
        """The map from moving to fixed positions, found point by point.

        Its ``inversion_error_mm`` says where it is not exact.
        """
        return self.transform.inverse

    def warp(
        self,
        image: ScanInput | None = None,
        *,
        labels: bool = False,
        interpolation: ScanInterpolation | LabelInterpolation | None = None,
    ) -> nib.Nifti1Image:
        """Return a scan or label map in the space of the moving scan on the grid of the fixed scan.

        Args:
            image: Scan or label map, see ``as_source``; by default the moving scan.
            labels: Whether it is a label map.
            interpolation: Of a scan ``linear`` (default) or ``cubic``; of a label map ``nearest``
                (default) or ``label-linear``, see ``warp_label_map``.

        Raises:
            InputError: If the file is unreadable, or the interpolation is of the other kind.
        """
        source = self.moving if image is None else as_source(image)
        scans = TransformScans(self.scans.fixed, read_scans_of(None, source).moving)
        if labels:
            of_labels = label_interpolation(interpolation)
            warped, _ = resample_labels(source, self.transform, scans, of_labels)
        else:
            of_scan = scan_interpolation(interpolation)
            warped, _ = resample_scan(source, self.transform, scans, of_scan)
        return nib.Nifti1Image.from_bytes(warped.to_bytes())  # with affine and scaling, as a file

    def points(self, points: ArrayLike) -> Float64[np.ndarray, "n 3"]:
        """Return where fixed points lie in the moving scan; ``inverse`` goes the other way.

        Args:
            points: Positions in RAS mm, ``(n, 3)``.

        Raises:
            InputError: If they have another shape.
        """
        positions = np.asarray(points, dtype=np.float64)
        if positions.ndim != 2 or positions.shape[1] != 3:
            raise InputError(
                Problem(
                    where="points",
                    what="are no positions",
                    expected="shape (n, 3): a row of three RAS mm for each point",
                    found=f"shape {positions.shape}",
                    remedy="a single point is points[None]; columns become rows by points.T",
                )
            )
        return self.transform(positions.T).T

    def show(self) -> Figure:
        """Return a figure of slices before and after; a notebook draws it, as it does the result.

        In a script: ``result.show().savefig("picture.png")``.
        """
        return pair_figure(self.picture, str(self.moving.path.name))

    def _repr_png_(self) -> bytes:
        """Return the figure for a notebook."""
        buffer = BytesIO()
        self.show().savefig(buffer, format="png", dpi=DPI)
        return buffer.getvalue()

    def save(self, path: str | Path, form: str = "itk") -> None:
        """Write the transform.

        Args:
            path: File to write; its suffix must be one of the form.
            form: ``itk``, ``greedy``, ``fsl``, ``spm``, ``torch``, ``challenge`` or
                ``challenge-2021``, see ``docs/transforms.md``.

        Raises:
            InputError: If the form has no such suffix, or the file cannot be written.
        """
        write_transform(Path(path), self.transform, form, self.scans)
