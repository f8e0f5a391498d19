"""Read a pair onto the working grid, ready for a network."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from l2reg.batch import Batch
from l2reg.data.cache import Cache
from l2reg.data.pairs import Pair, Scan
from l2reg.data.prealign import Prealign
from l2reg.data.task import Task
from l2reg.geometry.affine import (
    affine_field,
    apply_affine,
    identity_affine,
    invert_affine,
)
from l2reg.geometry.resize import resize_image, resize_labels, resize_points, voxel_ratio
from l2reg.geometry.warp import warp
from l2reg.io.files import content_digest
from l2reg.io.volumes import read_image, read_labels, read_mask
from l2reg.shapes import Affine, WorkingGrid, working_shape


class LoadedVolumes:
    """The files of one pair, each read once however many grids the pair is put on."""

    def __init__(self) -> None:
        self._volumes: dict[tuple[Path, str], np.ndarray] = {}

    def volume(self, path: Path, kind: str, read: Callable[[], np.ndarray]) -> np.ndarray:
        """Return a file's volume on its own grid: what ``read`` returns the first time."""
        if (path, kind) not in self._volumes:
            self._volumes[path, kind] = read()
        return self._volumes[path, kind]


class PairReader:
    """Reads pairs of one task onto one working grid.

    Args:
        task: Shape, spacing and intensities.
        grid: Working grid.
        prealign: How the moving scan is moved first.
        cache: Where normalised and resized volumes are kept.
    """

    def __init__(self, task: Task, grid: WorkingGrid, prealign: Prealign, cache: Cache) -> None:
        self.task = task
        self.shape = working_shape(task.shape, grid)
        self.prealign = prealign
        self.cache = cache
        ratio = voxel_ratio(self.shape, task.shape)
        self.spacing_mm = [mm * r for mm, r in zip(task.spacing_mm, ratio, strict=True)]

    def read(
        self, pair: Pair, opened: LoadedVolumes | None = None, prealign: Affine | None = None
    ) -> Batch:
        """Return one pair as a batch of one.

        Args:
            pair: Its files.
            opened: What was read of them already; what is read now is added.
            prealign: Map from fixed to moving working voxels, where it is known already.

        Names and shapes, all on the working grid; ``moving*`` after the prealignment:

        - ``fixed``, ``moving``: images in [0, 1], ``(1, 1, i, j, k)``;
        - ``fixed_mask``, ``moving_mask``: 1 inside, 0 outside; 1 everywhere without a mask file;
        - ``fixed_labels``, ``moving_labels``: integers; ``label_weight``, ``(1,)``: how much
          they count, 0 if either scan has none;
        - ``fixed_points``, ``moving_points``: keypoints in voxels, ``(1, n, 3)``, n may be 0;
          ``point_weights``, ``(1, n)``: 1 for each;
        - ``spacing_mm``, ``(1, 3)``: size of a working voxel;
        - ``prealign``, ``(1, 3, 4)``: map from fixed to moving working voxels.

        Raises:
            InputError: If a file is unreadable, or a mask is needed and missing.
        """
        opened = opened or LoadedVolumes()
        sample: Batch = {
            "fixed": self.image(pair.fixed, opened),
            "moving": self.image(pair.moving, opened),
            "fixed_mask": self.mask(pair.fixed, opened),
            "moving_mask": self.mask(pair.moving, opened),
            "spacing_mm": torch.tensor([self.spacing_mm], dtype=torch.float32),
            **self._labels(pair, opened),
            **self._keypoints(pair),
        }
        matrix = self._prealignment(pair, sample) if prealign is None else prealign
        return {**self._moved(sample, matrix), "prealign": matrix}

    def image(self, scan: Scan, opened: LoadedVolumes | None = None) -> Tensor:
        """Return a scan's intensities in [0, 1]."""
        intensity = self.task.intensity[scan.modality]

        def read(path: Path) -> np.ndarray:
            return intensity(read_image(path))

        def place(full: np.ndarray) -> np.ndarray:
            return resize_image(torch.from_numpy(full)[None, None], self.shape)[0, 0].numpy()

        return self._placed(scan.image, repr(intensity), read, place, opened or LoadedVolumes())

    def mask(self, scan: Scan, opened: LoadedVolumes | None = None) -> Tensor:
        """Return a scan's mask, or ones."""
        if scan.mask is None:
            return torch.ones(1, 1, *self.shape)
        return self._nearest(scan.mask, "mask", read_mask, opened).float()

    def labels(self, scan: Scan, opened: LoadedVolumes | None = None) -> Tensor:
        """Return a scan's labels, or zeros."""
        if scan.labels is None:
            return torch.zeros(1, 1, *self.shape, dtype=torch.int16)
        return self._nearest(scan.labels, "labels", read_labels, opened)

    def _labels(self, pair: Pair, opened: LoadedVolumes) -> Batch:
        both = pair.fixed.labels is not None and pair.moving.labels is not None
        weight = min(pair.fixed.label_weight, pair.moving.label_weight)
        return {
            "fixed_labels": self.labels(pair.fixed, opened),
            "moving_labels": self.labels(pair.moving, opened),
            "label_weight": torch.tensor([weight if both else 0.0]),
        }

    def _keypoints(self, pair: Pair) -> Batch:
        if pair.keypoints is None:
            points = torch.zeros(2, 1, 0, 3)
        else:
            full = torch.from_numpy(np.stack(pair.keypoints.read()))[:, None].float()
            points = torch.stack([resize_points(p, self.task.shape, self.shape) for p in full])
        fixed, moving = points
        return {
            "fixed_points": fixed,
            "moving_points": moving,
            "point_weights": torch.ones(fixed.shape[:2]),
        }

    def _prealignment(self, pair: Pair, sample: Batch) -> Affine:
        if not self.prealign.searches:
            return self.prealign.matrix(sample)

        def compute() -> np.ndarray:
            return self.prealign.matrix(sample).numpy()

        files = (pair.moving.image, pair.fixed.mask, pair.moving.mask)
        settings = {
            "kind": repr(self.prealign),
            "of": [content_digest(path) for path in files if path is not None],
            "shape": self.shape,
        }
        return torch.from_numpy(self.cache.get(pair.fixed.image, settings, compute))

    def _moved(self, sample: Batch, matrix: Tensor) -> Batch:
        """Apply the prealignment: what lies outside is background."""
        if torch.equal(matrix, identity_affine(1)):
            return sample
        disp = affine_field(matrix, self.shape)
        labels = warp(
            sample["moving_labels"].float(), disp, interpolation="nearest", padding="zeros"
        )
        return {
            **sample,
            "moving": warp(sample["moving"], disp, padding="zeros"),
            "moving_mask": warp(
                sample["moving_mask"], disp, interpolation="nearest", padding="zeros"
            ),
            "moving_labels": labels.to(torch.int16),
            "moving_points": apply_affine(invert_affine(matrix), sample["moving_points"]),
        }

    def _nearest(
        self,
        path: Path,
        kind: str,
        read: Callable[[Path], np.ndarray],
        opened: LoadedVolumes | None,
    ) -> Tensor:
        def place(full: np.ndarray) -> np.ndarray:
            labels = torch.from_numpy(full.astype(np.int16))[None, None]
            return resize_labels(labels, self.shape)[0, 0].numpy()

        return self._placed(path, kind, read, place, opened or LoadedVolumes())

    def _placed(
        self,
        path: Path,
        kind: str,
        read: Callable[[Path], np.ndarray],
        place: Callable[[np.ndarray], np.ndarray],
        opened: LoadedVolumes,
    ) -> Tensor:
        """Return a volume on the working grid, from the cache if it is there."""
        settings = {"kind": kind, "shape": self.shape, "of": self.task.shape}

        def compute() -> np.ndarray:
            return place(opened.volume(path, kind, lambda: read(path)))

        return torch.from_numpy(self.cache.get(path, settings, compute))[None, None]
