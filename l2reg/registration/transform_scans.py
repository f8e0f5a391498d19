"""The two scans that a transform connects, as far as they are known."""

from dataclasses import dataclass
from pathlib import Path

from l2reg.io.scan_source import ScanSource
from l2reg.problems import InputError, Problem
from l2reg.transforms.image_grid import ImageGrid, read_grid


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
