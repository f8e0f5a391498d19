"""Phantom writer: write the scans, labels, points and true fields of a phantom data set."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from l2reg.data.layouts import file_name
from l2reg.data.task import ScanFiles, Task
from l2reg.geometry.compose import compose, invert
from l2reg.phantom.abdomen import CT, MR, Abdomen, repositioning
from l2reg.phantom.brain import Template, subject_shape
from l2reg.phantom.canvas import Canvas, Positions, grid_points
from l2reg.phantom.lung import AIR, EXHALED, INHALED, LUNG_LABEL, Chest, breathing
from l2reg.phantom.motion import FieldArray

N_LANDMARKS = 100
N_KEYPOINTS = 1000
FIRST_VALIDATION_BRAIN = 438  # first id of a validation scan in the challenge


class Writer:
    """Writes one data set.

    Args:
        task: Task that defines the grid and the file names.
        folder: Folder of the task.
        seed: Seed of the patients; patient n is a function of ``(seed, n)``.
    """

    def __init__(self, task: Task, folder: Path, seed: int) -> None:
        self.task = task
        self.prefix = {"lung": "training", "abdomen": "Train", "oasis": ""}[task.name]
        self.folder = folder
        self.seed = seed
        self.layout = task.layouts["2021"]
        self.points = grid_points(task.shape, task.spacing_mm)
        self.spacing = np.array(task.spacing_mm, dtype=np.float32)
        self.edge_mm = float(self.spacing.mean())

    def jobs(self, n_pairs: int) -> Iterator[Callable[[], None]]:
        """Yield the calls that write the data set: one per pair or subject, then the pair list."""
        n_val = max(1, n_pairs // 4)
        if self.task.name == "oasis":
            yield from self._brain_jobs(n_pairs - n_val, n_val)
            return
        write_pair, numbers = (
            (self._write_lung_pair, range(1, n_pairs + 1))
            if self.task.name == "lung"
            else (self._write_abdomen_pair, range(2, 2 * n_pairs + 1, 2))  # even ids as in 2021
        )
        val = [*numbers][:n_val] if self.task.name == "lung" else [*numbers][-n_val:]
        for number in numbers:
            yield partial(write_pair, number, number in val)
        yield partial(self._write_pair_list, [(number, number) for number in val])

    def _write_lung_pair(self, number: int, is_validation: bool) -> None:
        rng = np.random.default_rng((self.seed, number))
        chest = Chest(rng)
        field = breathing(rng, chest, self.task.shape, self.task.spacing_mm, self.points)
        for files, points, tissue in (
            (self.layout.fixed, self._displace(field), EXHALED),
            (self.layout.moving, self.points, INHALED),
        ):
            canvas = Canvas(points, background=AIR, edge_mm=self.edge_mm)
            chest.paint(canvas, tissue)
            self._write_image(files, number, canvas.values + rng.normal(0, 20, len(points)))
            self._write_volume(files.mask, number, canvas.labels == LUNG_LABEL)
            if files is self.layout.fixed:
                inside = np.argwhere(self._as_volume(canvas.labels == LUNG_LABEL))
        self._write_true_field((number, number), field)
        patterns, count = (
            (self.layout.landmarks, N_LANDMARKS)
            if is_validation
            else (self.layout.keypoints, N_KEYPOINTS)
        )
        self._write_points(patterns[0], number, inside, count, field, rng)

    def _write_abdomen_pair(self, number: int, is_validation: bool) -> None:
        del is_validation  # the files are the same in both cases
        rng = np.random.default_rng((self.seed, number))
        patient = Abdomen(rng)
        field = repositioning(rng, self.task.shape, self.task.spacing_mm)
        for files, points, values, noise in (
            (self.layout.fixed, self._displace(field), MR, 12.0),
            (self.layout.moving, self.points, CT, 15.0),
        ):
            canvas = Canvas(points, background=values["outside"], edge_mm=self.edge_mm)
            patient.paint(canvas, values)
            image = canvas.values + rng.normal(0, noise, len(points))
            head = self.points[:, 2]
            if values is MR:
                image = np.maximum(1, image * patient.coil(self.points))
                scanned = np.abs(head - 8) < 150
            else:
                scanned = np.abs(head + 5) < 165
            self._write_image(files, number, np.where(scanned, image, values["outside"]))
            self._write_volume(files.labels, number, np.where(scanned, canvas.labels, np.uint8(0)))
            self._write_volume(files.mask, number, patient.skin_mask(points) & scanned)
        self._write_true_field((number, number), field)

    def _brain_jobs(self, n_train: int, n_val: int) -> Iterator[Callable[[], None]]:
        template = Template(np.random.default_rng((self.seed, 0)))
        for number in range(1, max(2, n_train + 1) + 1):
            yield partial(self._write_brain, template, self.layout.unpaired[0], number)
        first = FIRST_VALIDATION_BRAIN
        validation = range(first, first + n_val + 1)
        for number in validation:
            yield partial(self._write_brain, template, self.layout.fixed, number)
        pairs = [(number, number + 1) for number in validation[:-1]]
        for pair in pairs:
            yield partial(self._write_true_field_between, pair)
        yield partial(self._write_pair_list, pairs)

    def _write_brain(self, template: Template, files: ScanFiles, number: int) -> None:
        rng = np.random.default_rng((self.seed, number))
        points = self._displace(subject_shape(rng, self.task.shape, self.task.spacing_mm))
        canvas = Canvas(points, background=0.0, edge_mm=self.edge_mm)
        template.paint(canvas)
        noisy = canvas.values * rng.uniform(0.95, 1.05) + rng.normal(0, 0.015, len(points))
        brain = np.where(canvas.values > 0.02, np.clip(noisy, 1 / 255, 1), 0)
        self._write_volume(files.image, number, brain.astype(np.float32))
        self._write_volume(files.labels, number, canvas.labels)

    def _write_true_field_between(self, pair: tuple[int, int]) -> None:
        """Write the true field between two subjects, composed of their fields to the template."""
        to_template = [
            torch.from_numpy(
                subject_shape(
                    np.random.default_rng((self.seed, number)),
                    self.task.shape,
                    self.task.spacing_mm,
                )
                / self.spacing[:, None, None, None]
            )[None]
            for number in pair
        ]
        voxels = compose(invert(to_template[1]), to_template[0])[0].numpy()
        self._write_true_field(pair, voxels * self.spacing[:, None, None, None])

    def _as_volume(self, values: np.ndarray) -> np.ndarray:
        return values.reshape(self.task.shape)

    def _displace(self, field_mm: FieldArray) -> Positions:
        """Return the voxel centres displaced by a field, in mm."""
        positions: Positions = self.points + field_mm.reshape(3, -1).T
        return positions

    def _write_image(self, files: ScanFiles, number: int, values: np.ndarray) -> None:
        self._write_volume(files.image, number, np.round(values).astype(np.int16))

    def _write_volume(self, pattern: str | None, number: int, values: np.ndarray) -> None:
        """Write a volume with a header like the challenge's.

        Its axes are left, back, head, and the origin of the world is the centre of the volume.
        Booleans become uint8 and other integers keep their type. Floats are stored as 8 bits with a
        scale factor in the header.
        """
        half_extent = (np.array(self.task.shape) - 1) / 2 * self.spacing
        affine = np.diag([-self.spacing[0], -self.spacing[1], self.spacing[2], 1.0])
        affine[:3, 3] = half_extent * (1, 1, -1)
        volume = values.astype(np.uint8) if values.dtype == bool else values
        image = nib.Nifti1Image(volume.reshape(self.task.shape), affine)
        if volume.dtype.kind == "f":
            image.header.set_data_dtype(np.uint8)
        nib.save(image, self._path(pattern, number))

    def _path(self, pattern: str | None, number: int) -> Path:
        if pattern is None:
            raise AssertionError("the layout of this flavour has no name for the file")
        path = self.folder / self.prefix / file_name(pattern, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _write_true_field(self, pair: tuple[int, int], field_mm: FieldArray) -> None:
        """Write the true field of a pair in voxels, float16."""
        folder = self.folder / "truth"
        folder.mkdir(parents=True, exist_ok=True)
        voxels = (field_mm / self.spacing[:, None, None, None]).astype(np.float16)
        np.savez_compressed(folder / f"disp_{pair[0]:04}_{pair[1]:04}.npz", voxels)

    def _write_points(
        self,
        pattern: str,
        number: int,
        inside: np.ndarray,
        count: int,
        field_mm: FieldArray,
        rng: np.random.Generator,
    ) -> None:
        """Write random fixed voxels and their moving positions by the true field, in voxels.

        Args:
            pattern: Pattern of the file name.
            number: Number of the pair.
            inside: Fixed voxels to draw from.
            count: Number of points; those that leave the moving volume are left out.
            field_mm: True field, in mm.
            rng: Random numbers of the choice.
        """
        fixed = inside[rng.permutation(len(inside))]
        voxels = field_mm[:, *fixed.T].T / self.spacing
        moving = fixed + voxels
        is_inside = ((moving >= 0) & (moving <= np.array(self.task.shape) - 1)).all(axis=1)
        rows = np.column_stack([fixed, moving])[is_inside][:count]
        np.savetxt(self._path(pattern, number), rows, fmt="%.3f", delimiter=",")

    def _write_pair_list(self, pairs: list[tuple[int, int]]) -> None:
        rows = "".join(f"{fixed}, {moving}\n" for fixed, moving in pairs)
        (self.folder / "pairs_val.csv").write_text(f"fixed, moving\n{rows}", encoding="utf-8")
