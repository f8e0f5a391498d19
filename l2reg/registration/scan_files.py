"""Files of a scan that belongs to no data set: the image, and what is known about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from l2reg.io.scan_source import ScanInput, ScanSource, as_source
from l2reg.problems import Problem
from l2reg.registration.warp_files import Coordinates
from l2reg.transforms.image_grid import ImageGrid

_MAX_APART = 0.5  # voxels between two places of a corner


@dataclass(frozen=True, init=False)
class ScanFiles:
    """Files of one scan.

    Attributes:
        image: The scan.
        mask: Label map on the grid of the image, not 0 where it may be compared.
        labels: Label map on the grid of the image, by which a registration is scored.
        points: Table of landmarks, by which a registration is scored.
        coordinates: Coordinates of the landmarks.
        channels: Further channels of the scan, such as T2 beside T1.
    """

    image: ScanSource
    mask: Path | None
    labels: Path | None
    points: Path | None
    coordinates: Coordinates
    channels: tuple[ScanSource, ...]

    def __init__(
        self,
        image: ScanInput,
        *,
        volume: int | None = None,
        mask: str | Path | None = None,
        labels: str | Path | None = None,
        points: str | Path | None = None,
        coordinates: Coordinates = "ras",
        channels: Sequence[ScanInput] = (),
    ) -> None:
        object.__setattr__(self, "image", as_source(image, volume))
        paths = {"mask": mask, "labels": labels, "points": points}
        for name, path in paths.items():
            object.__setattr__(self, name, None if path is None else Path(path))
        object.__setattr__(self, "coordinates", coordinates)
        object.__setattr__(self, "channels", tuple(as_source(each) for each in channels))

    @property
    def paths(self) -> list[Path]:
        """All files."""
        channels = [channel.path for channel in self.channels]
        files = (self.image.path, self.mask, self.labels, self.points, *channels)
        return [path for path in files if path is not None]


def as_scan_files(scan: ScanInput | ScanFiles) -> ScanFiles:
    """Return the files of a scan of which only the image is given."""
    return scan if isinstance(scan, ScanFiles) else ScanFiles(scan)


def grid_problems(path: Path, grid: ImageGrid, image: ScanSource, own: ImageGrid) -> list[Problem]:
    """Return a problem if a label map or mask does not lie on the grid of its scan.

    Args:
        path: The label map or mask.
        grid: Its grid.
        image: The scan.
        own: Grid of the scan.
    """
    if grid.shape != own.shape:
        found = f"shape {grid.shape}"
    elif (distance := own.corner_distance(grid)) > _MAX_APART:
        found = f"a header that places a corner {distance:.3g} voxels elsewhere"
    else:
        return []
    return [
        Problem(
            where=str(path),
            what=f"does not lie on the grid of {image}",
            expected=f"shape {own.shape} and the header of the scan",
            found=found,
            remedy="resample it to the scan, or name the scan that it belongs to",
        )
    ]
