"""Reader of one's own pairs: each scan is resampled by its header onto the grid of the pair."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from l2reg.batch import Batch
from l2reg.data.cache import Cache
from l2reg.data.field_of_view import field_of_view
from l2reg.data.intensity import Region
from l2reg.data.pairs import Pair, Scan
from l2reg.data.prealign import Prealign
from l2reg.data.reader import LoadedVolumes, PairReader
from l2reg.data.task import Task
from l2reg.geometry.affine import affine_field
from l2reg.geometry.warp import inside_scan, warp_with_fill
from l2reg.io.point_tables import read_point_table
from l2reg.io.scan_source import ScanSource, scan_digest
from l2reg.io.volumes import read_labels, read_mask, read_volume
from l2reg.problems import InputError, Problem
from l2reg.registration.warp_files import Coordinates, to_ras
from l2reg.registration.working_grid import smooth_to_resolution
from l2reg.shapes import Affine, Image, LabelMap, Mask, WorkingGrid
from l2reg.transforms.image_grid import ImageGrid, read_grid
from l2reg.transforms.pair_grid import StartPlace, pair_grids, scan_grid, working_image_grid
from l2reg.transforms.warped_scan import warp_label_map
from l2reg.transforms.world import voxel_map, voxels_to_world

Positions = Float64[np.ndarray, "n 3"]


class OwnPairReader(PairReader):
    """Reads pairs of scans of any grids onto one working grid.

    Args:
        task: Task, for the shape and spacing of the grid of a pair, and the intensities.
        grid: Working grid.
        prealign: Method of prealignment.
        cache: Cache of normalised and resampled volumes.
        start: How the grids of a pair lie, see ``pair_grids``.
        coordinates: Coordinates of point files; ``None`` if there are none.
        n_channels: Number of channels of each scan.
    """

    def __init__(
        self,
        task: Task,
        grid: WorkingGrid,
        prealign: Prealign,
        cache: Cache,
        *,
        start: StartPlace,
        coordinates: Coordinates | None,
        n_channels: int,
    ) -> None:
        super().__init__(task, grid, prealign, cache)
        self.n_channels = n_channels
        self.grid = grid
        self.start: StartPlace = start
        self.coordinates = coordinates
        self._image_grids: dict[ScanSource, ImageGrid] = {}

    def full_grids(self, pair: Pair) -> tuple[ImageGrid, ImageGrid]:
        """Return the grids of the task's shape that the fixed and the moving scan are put on."""
        fixed, moving = (self._image_grid(scan) for scan in (pair.fixed, pair.moving))
        return pair_grids(fixed, moving, self.task.shape, self.task.spacing_mm, self.start)

    def image(
        self, scan: Scan, loaded: LoadedVolumes | None = None, grid: ImageGrid | None = None
    ) -> Image:
        """Return the intensities of all channels of a scan, in [0, 1]; 0 outside of it.

        Args:
            scan: Scan to read.
            loaded: Volumes that are already read; those read now are added.
            grid: Grid to resample it to; by default the working grid in its middle.
        """
        grid = grid or self._own_grid(scan)
        volumes = loaded or LoadedVolumes()
        return torch.cat([self._channel(c, volumes, grid) for c in scan.each_channel], dim=1)

    def _channel(self, scan: Scan, volumes: LoadedVolumes, grid: ImageGrid) -> Image:
        """Return the intensities of a scan of one channel, see ``image``."""
        if scan.modality not in self.task.intensity:
            raise InputError(_no_intensity(scan))
        intensity = self.task.intensity[scan.modality]

        def read() -> np.ndarray:
            return intensity(read_volume(scan.source).array, _view(scan, volumes))

        def resample(full: np.ndarray, to_scan: Affine, shape: ImageGrid) -> np.ndarray:
            volume = smooth_to_resolution(torch.from_numpy(full)[None, None], to_scan)
            disp = affine_field(to_scan, shape.shape)
            return warp_with_fill(volume, disp, 0.0)[0, 0].numpy()

        kind = _kind(repr(intensity), scan)
        return self._resample(scan.image, scan, kind, read, resample, volumes, grid)

    def mask(
        self, scan: Scan, loaded: LoadedVolumes | None = None, grid: ImageGrid | None = None
    ) -> Mask:
        """Return 1 where a scan is to be compared; see ``image``.

        That is in the field of view of all its channels, and in its mask if it has one.
        """
        grid = grid or self._own_grid(scan)
        volumes = loaded or LoadedVolumes()
        inside = torch.ones(1, 1, *grid.shape)
        for channel in scan.each_channel:
            inside = inside * self._seen(channel, volumes, grid)
        if scan.mask is None:
            return inside
        path = scan.mask
        return inside * self._nearest(
            path, scan, "mask", lambda: read_mask(path).astype(np.int16), loaded, grid
        )

    def _seen(self, scan: Scan, volumes: LoadedVolumes, grid: ImageGrid) -> Mask:
        """Return 1 in the field of view of a scan of one channel."""
        own = self._image_grid(scan)
        to_scan = _affine(voxel_map(grid.place.affine, own.place.affine))
        inside = inside_scan(affine_field(to_scan, grid.shape), own.shape).float()

        def view() -> np.ndarray:
            return _view(scan, volumes).astype(np.int16)

        kind = _kind("field of view as a mask", scan)
        return inside * self._nearest(scan.image, scan, kind, view, volumes, grid)

    def labels(
        self, scan: Scan, loaded: LoadedVolumes | None = None, grid: ImageGrid | None = None
    ) -> LabelMap:
        """Return the label map of a scan; zeros without a label file; see ``image``."""
        path = scan.labels
        if path is None:
            return torch.zeros(1, 1, *self.shape, dtype=torch.int16)
        return self._nearest(path, scan, "labels", lambda: read_labels(path), loaded, grid)

    def points(self, pair: Pair) -> tuple[Positions, Positions]:
        """Return the points of both scans on the working grids, in voxels.

        Points outside of the grid of either scan are left out.
        """
        points, grids = pair.keypoints, self._grids(pair)
        if points is None or self.coordinates is None:
            return np.zeros((0, 3)), np.zeros((0, 3))
        paths = points.paths[::-1] if points.reversed else points.paths
        voxels = []
        for path, scan, grid in zip(paths, (pair.fixed, pair.moving), grids, strict=True):
            world = to_ras(self.coordinates, self._image_grid(scan))
            table = voxels_to_world(world, read_point_table(path).points.T)
            voxels.append(voxels_to_world(np.linalg.inv(grid.place.affine), table))
        last = np.array(self.shape)[:, None] - 1
        kept = np.all([(v >= 0) & (v <= last) for v in voxels], axis=(0, 1))
        return voxels[0][:, kept].T, voxels[1][:, kept].T

    def _sample(self, pair: Pair, loaded: LoadedVolumes) -> Batch:
        fixed, moving = self._grids(pair)
        fixed_points, moving_points = (
            torch.from_numpy(each)[None].float() for each in self.points(pair)
        )
        labelled = None not in (pair.fixed.labels, pair.moving.labels)
        return {
            "fixed": self.image(pair.fixed, loaded, fixed),
            "moving": self.image(pair.moving, loaded, moving),
            "fixed_mask": self.mask(pair.fixed, loaded, fixed),
            "moving_mask": self.mask(pair.moving, loaded, moving),
            "cross_modality": self.cross_modality(pair),
            "spacing_mm": torch.tensor([self.spacing_mm], dtype=torch.float32),
            "fixed_labels": self.labels(pair.fixed, loaded, fixed),
            "moving_labels": self.labels(pair.moving, loaded, moving),
            "label_weight": torch.tensor([1.0 if labelled else 0.0]),
            "fixed_points": fixed_points,
            "moving_points": moving_points,
            "point_weights": torch.ones(fixed_points.shape[:2]),
        }

    def _grid_settings(self, pair: Pair) -> dict[str, Any]:
        grids = [grid.place.affine.tolist() for grid in self._grids(pair)]
        volumes = [scan.volume for scan in (pair.fixed, pair.moving)]
        named: dict[str, Any] = {} if volumes == [None, None] else {"volumes": volumes}
        if further := [c for scan in (pair.fixed, pair.moving) for c in scan.channels]:
            named["channels"] = [[scan_digest(c.path), c.volume] for c in further]
        return {"shape": self.shape, "affines": grids, **named}

    def _grids(self, pair: Pair) -> tuple[ImageGrid, ImageGrid]:
        """Return the working grids of a pair."""
        fixed, moving = self.full_grids(pair)
        return working_image_grid(fixed, self.grid), working_image_grid(moving, self.grid)

    def _own_grid(self, scan: Scan) -> ImageGrid:
        own = self._image_grid(scan)
        full = scan_grid(own, self.task.shape, self.task.spacing_mm)
        return working_image_grid(full, self.grid)

    def _image_grid(self, scan: Scan) -> ImageGrid:
        if scan.source not in self._image_grids:
            self._image_grids[scan.source] = read_grid(scan.source)
        return self._image_grids[scan.source]

    def _nearest(
        self,
        path: Path,
        scan: Scan,
        kind: str,
        read: Callable[[], np.ndarray],
        loaded: LoadedVolumes | None,
        grid: ImageGrid | None,
    ) -> Tensor:
        """Return labels or a mask by the nearest voxel; 0 outside of the scan."""

        def resample(full: np.ndarray, to_scan: Affine, shape: ImageGrid) -> np.ndarray:
            return warp_label_map(full, affine_field(to_scan, shape.shape))

        return self._resample(path, scan, kind, read, resample, loaded, grid)

    def _resample(
        self,
        path: Path,
        scan: Scan,
        kind: str,
        read: Callable[[], np.ndarray],
        resample: Callable[[np.ndarray, Affine, ImageGrid], np.ndarray],
        loaded: LoadedVolumes | None,
        grid: ImageGrid | None,
    ) -> Tensor:
        """Return a volume of a scan on a grid, from the cache if available."""
        target = grid or self._own_grid(scan)
        volumes = loaded or LoadedVolumes()
        to_scan = voxel_map(target.place.affine, self._image_grid(scan).place.affine)
        settings = {"own": kind, "shape": target.shape, "map": to_scan.round(6).tolist()}

        def compute() -> np.ndarray:
            full = volumes.volume(path, kind, read)
            return resample(full, _affine(to_scan), target)

        return torch.from_numpy(self.cache.get(path, settings, compute))[None, None]


def _affine(matrix: Float64[np.ndarray, "4 4"]) -> Affine:
    return torch.from_numpy(matrix)[None, :3].float()


def _no_intensity(scan: Scan) -> Problem:
    return Problem(
        where=f"task.intensity.{scan.modality}",
        what="is missing, the normalisation of a further channel",
        expected="one for each channel, as l2reg plan proposes it",
        found=f"none for {scan.image}",
        remedy="task.intensity.fixed=null: what is null, and channels without one, are planned "
        "from the scans",
    )


def _kind(name: str, scan: Scan) -> str:
    """Return the name of what is read, with that of the volume of a file of several."""
    return name if scan.volume is None else f"{name} of volume {scan.volume}"


def _view(scan: Scan, volumes: LoadedVolumes) -> Region:
    """Return the field of view of a scan on its own grid, which is looked for once."""

    def find() -> np.ndarray:
        return field_of_view(read_volume(scan.source).array)

    return volumes.volume(scan.image, _kind("field of view", scan), find)
