"""Pair reader: reads, normalises, resizes and prealigns a pair for a network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from l2reg.batch import Batch, first_channel
from l2reg.data.cache import Cache
from l2reg.data.field_of_view import field_of_view
from l2reg.data.intensity import Region, Window
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
from l2reg.io.scan_source import scan_digest
from l2reg.io.volumes import read_image, read_labels, read_mask
from l2reg.shapes import Affine, Image, LabelMap, Mask, PerPair, WorkingGrid, working_shape


class LoadedVolumes:
    """Volumes of one pair, each read once and used for several working grids."""

    def __init__(self) -> None:
        self._volumes: dict[tuple[Path, str], np.ndarray] = {}

    def volume(self, path: Path, kind: str, read: Callable[[], np.ndarray]) -> np.ndarray:
        """Return the volume of a file on its own grid; ``read`` is called only the first time.

        Args:
            path: File of the volume.
            kind: Kind of reading, as the same file may be read as labels and as a mask.
            read: Function that reads the file.
        """
        if (path, kind) not in self._volumes:
            self._volumes[path, kind] = read()
        return self._volumes[path, kind]


class PairReader:
    """Reads pairs of one task onto one working grid.

    Args:
        task: Task, for its shape, voxel size and intensities.
        grid: Working grid.
        prealign: Method of prealignment.
        cache: Cache of normalised and resized volumes.

    Attributes:
        n_channels: Number of channels of each scan.
    """

    n_channels = 1

    def __init__(self, task: Task, grid: WorkingGrid, prealign: Prealign, cache: Cache) -> None:
        self.task = task
        self.shape = working_shape(task.shape, grid)
        self.prealign = prealign
        self.cache = cache
        ratio = voxel_ratio(self.shape, task.shape)
        self.spacing_mm = [mm * r for mm, r in zip(task.spacing_mm, ratio, strict=True)]

    def read(
        self, pair: Pair, loaded: LoadedVolumes | None = None, prealign: Affine | None = None
    ) -> Batch:
        """Return one pair as a batch of one, on the working grid.

        ``batch.Batch`` describes the entries; all up to ``prealign`` are present.

        Args:
            pair: Pair to read.
            loaded: Volumes of the pair that are already read; those read now are added.
            prealign: Map from fixed to moving working voxels, if it is already known.

        Raises:
            InputError: If a file is missing or unreadable.
        """
        sample = self._sample(pair, loaded or LoadedVolumes())
        matrix = self._prealignment(pair, sample) if prealign is None else prealign
        return {**self._apply_prealignment(sample, matrix), "prealign": matrix}

    def image(self, scan: Scan, loaded: LoadedVolumes | None = None) -> Image:
        """Return the intensities of a scan, in [0, 1]."""
        intensity = self.task.intensity[scan.modality]

        def read(path: Path) -> np.ndarray:
            return intensity(read_image(path))

        def resize(full: np.ndarray) -> np.ndarray:
            return resize_image(torch.from_numpy(full)[None, None], self.shape)[0, 0].numpy()

        return self._resize(scan.image, repr(intensity), read, resize, loaded or LoadedVolumes())

    def mask(self, scan: Scan, loaded: LoadedVolumes | None = None) -> Mask:
        """Return the mask of a scan; its field of view without a mask file."""
        if scan.mask is None:
            return self._resize_nearest(scan.image, "field of view", _read_view, loaded).float()
        return self._resize_nearest(scan.mask, "mask", read_mask, loaded).float()

    def labels(self, scan: Scan, loaded: LoadedVolumes | None = None) -> LabelMap:
        """Return the label map of a scan; zeros without a label file."""
        if scan.labels is None:
            return torch.zeros(1, 1, *self.shape, dtype=torch.int16)
        return self._resize_nearest(scan.labels, "labels", read_labels, loaded)

    def cross_modality(self, pair: Pair) -> PerPair:
        """Return 1 if one scan of a pair has a window in Hounsfield units, and the other not."""
        intensities = [self.task.intensity[scan.modality] for scan in (pair.fixed, pair.moving)]
        fixed, moving = (isinstance(each, Window) for each in intensities)
        return torch.tensor([float(fixed != moving)])

    def _sample(self, pair: Pair, loaded: LoadedVolumes) -> Batch:
        """Return one pair on the working grid, before the prealignment."""
        return {
            "fixed": self.image(pair.fixed, loaded),
            "moving": self.image(pair.moving, loaded),
            "fixed_mask": self.mask(pair.fixed, loaded),
            "moving_mask": self.mask(pair.moving, loaded),
            "cross_modality": self.cross_modality(pair),
            "spacing_mm": torch.tensor([self.spacing_mm], dtype=torch.float32),
            **self._labels(pair, loaded),
            **self._keypoints(pair),
        }

    def _labels(self, pair: Pair, loaded: LoadedVolumes) -> Batch:
        """Return labels and label weight of a pair; the weight is 0 if either scan has none."""
        both = pair.fixed.labels is not None and pair.moving.labels is not None
        weight = min(pair.fixed.label_weight, pair.moving.label_weight)
        return {
            "fixed_labels": self.labels(pair.fixed, loaded),
            "moving_labels": self.labels(pair.moving, loaded),
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
        """Return the map from fixed to moving voxels; the result of a search is cached."""
        sample = first_channel(sample)
        if not self.prealign.searches:
            return self.prealign.matrix(sample)

        def compute() -> np.ndarray:
            return self.prealign.matrix(sample).numpy()

        files = (pair.moving.image, pair.fixed.mask, pair.moving.mask)
        settings = {
            "kind": repr(self.prealign),
            "of": [None if path is None else scan_digest(path) for path in files],
            "intensity": [repr(self.task.intensity[s.modality]) for s in (pair.fixed, pair.moving)],
            **self._grid_settings(pair),
        }
        return torch.from_numpy(self.cache.get(pair.fixed.image, settings, compute))

    def _grid_settings(self, pair: Pair) -> dict[str, Any]:
        """Return what the grid of a pair depends on."""
        del pair  # all pairs of a task have one grid
        return {
            "shape": self.shape,
            "spacing_mm": self.spacing_mm,
            "task_shape": self.task.shape,
        }

    def _apply_prealignment(self, sample: Batch, matrix: Affine) -> Batch:
        """Return the sample with the moving scan prealigned; outside of it is background."""
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

    def _resize_nearest(
        self,
        path: Path,
        kind: str,
        read: Callable[[Path], np.ndarray],
        loaded: LoadedVolumes | None,
    ) -> Tensor:
        """Return labels or a mask on the working grid, by the nearest voxel."""

        def resize(full: np.ndarray) -> np.ndarray:
            labels = torch.from_numpy(full.astype(np.int16))[None, None]
            return resize_labels(labels, self.shape)[0, 0].numpy()

        return self._resize(path, kind, read, resize, loaded or LoadedVolumes())

    def _resize(
        self,
        path: Path,
        kind: str,
        read: Callable[[Path], np.ndarray],
        resize: Callable[[np.ndarray], np.ndarray],
        loaded: LoadedVolumes,
    ) -> Tensor:
        """Return a volume on the working grid, from the cache if available."""
        settings = {"kind": kind, "shape": self.shape, "of": self.task.shape}

        def compute() -> np.ndarray:
            return resize(loaded.volume(path, kind, lambda: read(path)))

        return torch.from_numpy(self.cache.get(path, settings, compute))[None, None]


def _read_view(path: Path) -> Region:
    return field_of_view(read_image(path))
