"""Write the scans of a phantom data set, pair by pair."""

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
FIRST_BRAIN_OF_VALIDATION = 438


class Writer:
    """Writes one data set.

    Args:
        task: Grid and file names.
        folder: The task's folder.
        seed: Patient n is a function of ``(seed, n)``.
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
        """Return what there is to do: one call a pair or subject, then the list of pairs."""
        n_val = max(1, n_pairs // 4)
        if self.task.name == "oasis":
            yield from self._brains(n_pairs - n_val, n_val)
            return
        one, numbers = (
            (self._lung_pair, range(1, n_pairs + 1))
            if self.task.name == "lung"
            else (self._abdomen_pair, range(2, 2 * n_pairs + 1, 2))  # the challenge's even ids
        )
        val = [*numbers][:n_val] if self.task.name == "lung" else [*numbers][-n_val:]
        for number in numbers:
            yield partial(one, number, number in val)
        yield partial(self._list, [(number, number) for number in val])

    def _lung_pair(self, number: int, scored: bool) -> None:
        rng = np.random.default_rng((self.seed, number))
        chest = Chest(rng)
        field = breathing(rng, chest, self.task.shape, self.task.spacing_mm, self.points)
        for files, points, tissue in (
            (self.layout.fixed, self._moved(field), EXHALED),
            (self.layout.moving, self.points, INHALED),
        ):
            canvas = Canvas(points, background=AIR, edge_mm=self.edge_mm)
            chest.paint(canvas, tissue)
            self._image(files, number, canvas.values + rng.normal(0, 20, len(points)))
            self._save(files.mask, number, canvas.labels == LUNG_LABEL)
            if files is self.layout.fixed:
                inside = np.argwhere(self._grid(canvas.labels == LUNG_LABEL))
        self._truth((number, number), field)
        patterns, count = (
            (self.layout.landmarks, N_LANDMARKS) if scored else (self.layout.keypoints, N_KEYPOINTS)
        )
        self._points(patterns[0], number, inside, count, field, rng)

    def _abdomen_pair(self, number: int, scored: bool) -> None:
        del scored  # the same files either way
        rng = np.random.default_rng((self.seed, number))
        patient = Abdomen(rng)
        field = repositioning(rng, self.task.shape, self.task.spacing_mm)
        for files, points, values, noise in (
            (self.layout.fixed, self._moved(field), MR, 12.0),
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
            self._image(files, number, np.where(scanned, image, values["outside"]))
            self._save(files.labels, number, np.where(scanned, canvas.labels, np.uint8(0)))
            self._save(files.mask, number, patient.skin_mask(points) & scanned)
        self._truth((number, number), field)

    def _brains(self, n_train: int, n_val: int) -> Iterator[Callable[[], None]]:
        template = Template(np.random.default_rng((self.seed, 0)))
        for number in range(1, max(2, n_train + 1) + 1):
            yield partial(self._brain, template, self.layout.unpaired[0], number)
        first = FIRST_BRAIN_OF_VALIDATION
        scored = range(first, first + n_val + 1)
        for number in scored:
            yield partial(self._brain, template, self.layout.fixed, number)
        pairs = [(number, number + 1) for number in scored[:-1]]
        for pair in pairs:
            yield partial(self._truth_between, pair)
        yield partial(self._list, pairs)

    def _brain(self, template: Template, files: ScanFiles, number: int) -> None:
        rng = np.random.default_rng((self.seed, number))
        points = self._moved(subject_shape(rng, self.task.shape, self.task.spacing_mm))
        canvas = Canvas(points, background=0.0, edge_mm=self.edge_mm)
        template.paint(canvas)
        noisy = canvas.values * rng.uniform(0.95, 1.05) + rng.normal(0, 0.015, len(points))
        brain = np.where(canvas.values > 0.02, np.clip(noisy, 1 / 255, 1), 0)
        self._save(files.image, number, brain.astype(np.float32))
        self._save(files.labels, number, canvas.labels)

    def _truth_between(self, pair: tuple[int, int]) -> None:
        """Write the field between two subjects: through the template and back."""
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
        self._truth(pair, voxels * self.spacing[:, None, None, None])

    def _grid(self, values: np.ndarray) -> np.ndarray:
        return values.reshape(self.task.shape)

    def _moved(self, field_mm: FieldArray) -> Positions:
        moved: Positions = self.points + field_mm.reshape(3, -1).T
        return moved

    def _image(self, files: ScanFiles, number: int, values: np.ndarray) -> None:
        self._save(files.image, number, np.round(values).astype(np.int16))

    def _save(self, pattern: str | None, number: int, values: np.ndarray) -> None:
        """Write a volume with the challenge's kind of header: left, back, head; origin inside.

        Booleans and labels are stored as they are, floats as 8 bits with a factor in the header.
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
            raise AssertionError("the flavour writes a file that its layout has no name for")
        path = self.folder / self.prefix / file_name(pattern, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _truth(self, pair: tuple[int, int], field_mm: FieldArray) -> None:
        folder = self.folder / "truth"
        folder.mkdir(parents=True, exist_ok=True)
        voxels = (field_mm / self.spacing[:, None, None, None]).astype(np.float16)
        np.savez_compressed(folder / f"disp_{pair[0]:04}_{pair[1]:04}.npz", voxels)

    def _points(
        self,
        pattern: str,
        number: int,
        inside: np.ndarray,
        count: int,
        field_mm: FieldArray,
        rng: np.random.Generator,
    ) -> None:
        """Write fixed voxels and where the true field takes them, those that stay inside."""
        chosen = inside[rng.permutation(len(inside))]
        voxels = field_mm[:, *chosen.T].T / self.spacing
        target = chosen + voxels
        stays = ((target >= 0) & (target <= np.array(self.task.shape) - 1)).all(axis=1)
        rows = np.column_stack([chosen, target])[stays][:count]
        np.savetxt(self._path(pattern, number), rows, fmt="%.3f", delimiter=",")

    def _list(self, pairs: list[tuple[int, int]]) -> None:
        rows = "".join(f"{fixed}, {moving}\n" for fixed, moving in pairs)
        (self.folder / "pairs_val.csv").write_text(f"fixed, moving\n{rows}", encoding="utf-8")
