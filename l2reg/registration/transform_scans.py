"""The two scans that a transform connects, as far as they are known."""

from dataclasses import dataclass
from pathlib import Path

from l2reg.io.scan_source import ScanSource
from l2reg.problems import InputError, Problem
from l2reg.transforms.image_grid import ImageGrid, read_grid
from l2reg.transforms.world_transform import (
    DisplacementMap,
    InverseDisplacementMap,
    WorldTransform,
)

_SAME_PLACE = 0.01  # voxels between two places of a corner


@dataclass(frozen=True)
class TransformScans:
    """Grids of the two scans that a transform connects, as far as they are known.

    Attributes:
        fixed: Grid of the fixed scan, on which a field lies.
        moving: Grid of the moving scan.
        several: Whether they are not known because there are several transforms.
    """

    fixed: ImageGrid | None = None
    moving: ImageGrid | None = None
    several: bool = False

    @property
    def swapped(self) -> "TransformScans":
        """The scans of the inverse."""
        return TransformScans(self.moving, self.fixed)

    def both(self, where: str) -> tuple[ImageGrid, ImageGrid]:
        """Return both grids.

        Raises:
            InputError: If one is not known; it names the option.
        """
        fixed, moving = self.fixed, self.moving
        if fixed is None or moving is None:
            missing = "--reference FIXED" if fixed is None else "--moving MOVING"
            remedy = f"add {missing}"
            if self.several:
                remedy = "convert it first: l2reg convert FILE --to itk --out FILE.nii.gz"
            raise InputError(
                Problem(
                    where=where,
                    what="needs the grids of the scans that the transform connects",
                    expected="both scans, whose headers are read",
                    found="several transforms"
                    if self.several
                    else f"no {missing.split(maxsplit=1)[0]}",
                    remedy=remedy,
                )
            )
        return fixed, moving


def read_scans_of(
    fixed: Path | ScanSource | None, moving: Path | ScanSource | None
) -> TransformScans:
    """Return the grids of two scans, of which only the headers are read."""
    return TransformScans(
        None if fixed is None else read_grid(fixed), None if moving is None else read_grid(moving)
    )


def direction_warning(transform: WorldTransform, scans: TransformScans) -> str | None:
    """Return in words that a transform seems to lead the other way, if it does.

    The grid of a displacement field is that of its fixed scan, as a rule.

    Args:
        transform: The transform; nothing is known of one that is not a single field.
        scans: The scan whose positions are mapped, as the fixed one, and the other one.
    """
    if scans.fixed is None or scans.moving is None:
        return None
    match transform.steps:
        case (DisplacementMap() as field,):
            mapped, other = scans.fixed, scans.moving
            remedy = "add --inverse, or exchange the two scans"
        case (InverseDisplacementMap(inverse=field),):
            mapped, other = scans.moving, scans.fixed
            remedy = "leave out --inverse, or exchange the two scans"
        case _:
            return None
    if _coincide(field.grid, mapped) or not _coincide(field.grid, other):
        return None
    return f"the transform may lead the other way, as its grid is that of the other scan: {remedy}"


def _coincide(grid: ImageGrid, other: ImageGrid) -> bool:
    return grid.shape == other.shape and grid.corner_distance(other) < _SAME_PLACE
