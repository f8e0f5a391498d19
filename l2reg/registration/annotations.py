"""Labels and landmarks of two scans, by which a registration is scored."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64, Shaped

from l2reg.evaluation.metrics import dice
from l2reg.io.point_tables import read_point_table
from l2reg.io.volumes import read_labels
from l2reg.problems import InputError, Problem, raise_if_any
from l2reg.registration.scan_files import ScanFiles, grid_problems
from l2reg.registration.warp_files import to_ras
from l2reg.transforms.image_grid import ImageGrid, read_grid
from l2reg.transforms.warped_scan import warp_label_map
from l2reg.transforms.world import voxels_to_world
from l2reg.transforms.world_transform import WorldTransform
from l2reg.wording import quantity

_WORSE_MM = 0.5  # growth of the mean landmark error that is flagged
_WORSE_DICE = 0.01  # loss of the mean Dice coefficient that is flagged
_MAX_OUTSIDE = 0.5  # fraction of the landmarks

LabelPair = tuple[Shaped[np.ndarray, "i j k"], Shaped[np.ndarray, "mi mj mk"]]
PointPair = tuple[Float64[np.ndarray, "3 n"], Float64[np.ndarray, "3 n"]]


@dataclass(frozen=True)
class Scores:
    """How well a transform fits labels and landmarks.

    Attributes:
        dice: Dice coefficient of each label that both scans have; empty without label maps.
        tre_mm: Target registration error of each landmark; empty without landmarks.
    """

    dice: Mapping[int, float]
    tre_mm: tuple[float, ...]

    @property
    def mean_dice(self) -> float:
        """Mean Dice coefficient of the labels."""
        return float(np.mean(list(self.dice.values())))

    @property
    def mean_tre_mm(self) -> float:
        """Mean target registration error."""
        return float(np.mean(self.tre_mm))


def score_lines(scores: Mapping[str, Scores]) -> list[str]:
    """Return scores before and after registration in words, a line for each kind."""
    if not scores:
        return []
    before, after = scores["before"], scores["after"]
    lines = []
    if after.dice:
        means = f"{before.mean_dice:.3f} -> {after.mean_dice:.3f}"
        lines.append(f"Dice {means} ({quantity(len(after.dice), 'label')})")
    if after.tre_mm:
        means = f"{before.mean_tre_mm:.2f} -> {after.mean_tre_mm:.2f} mm"
        lines.append(f"TRE {means} ({quantity(len(after.tre_mm), 'landmark')})")
    return lines


def score_flags(scores: Mapping[str, Scores]) -> list[str]:
    """Return warnings where labels or landmarks fit worse than by the headers alone."""
    if not scores:
        return []
    before, after = scores["before"], scores["after"]
    flags = []
    if after.dice and after.mean_dice < before.mean_dice - _WORSE_DICE:
        flags.append(
            f"labels fit worse than by the headers: Dice {before.mean_dice:.3f} -> "
            f"{after.mean_dice:.3f}"
        )
    if after.tre_mm and after.mean_tre_mm > before.mean_tre_mm + _WORSE_MM:
        flags.append(
            f"landmarks fit worse than by the headers: TRE {before.mean_tre_mm:.2f} -> "
            f"{after.mean_tre_mm:.2f} mm; are their order and --coordinates right?"
        )
    return flags


@dataclass(frozen=True)
class Annotations:
    """Label maps and landmarks of a fixed and a moving scan.

    Attributes:
        grids: Grids of the scans.
        labels: Label maps on these grids, if there are any.
        points: Corresponding landmarks in RAS mm, if there are any.
    """

    grids: tuple[ImageGrid, ImageGrid]
    labels: LabelPair | None
    points: PointPair | None

    def scores(self, transform: WorldTransform) -> dict[str, Scores]:
        """Return the scores ``before``, by the headers alone, and ``after`` a transform.

        There are none without labels and landmarks.
        """
        if self.labels is None and self.points is None:
            return {}
        return {"before": self.score(WorldTransform(())), "after": self.score(transform)}

    def flags(self) -> list[str]:
        """Return warnings about landmarks of which most lie outside of their scan."""
        flags = []
        for points, grid, side in zip(
            self.points or (), self.grids, ("fixed", "moving"), strict=False
        ):
            voxels = voxels_to_world(np.linalg.inv(grid.place.affine), points)
            last = np.array(grid.shape)[:, None] - 0.5
            outside = ((voxels < -0.5) | (voxels > last)).any(axis=0).mean()
            if outside > _MAX_OUTSIDE:
                flags.append(
                    f"{100 * outside:.0f} % of the {side} landmarks lie outside of the scan; are "
                    "--coordinates right?"
                )
        return flags

    def score(self, transform: WorldTransform) -> Scores:
        """Return the scores of a transform; of the headers alone, if it has no steps."""
        overlaps: dict[int, float] = {}
        errors: tuple[float, ...] = ()
        if self.labels is not None:
            fixed, moving = self.labels
            field = transform.voxel_field(self.grids[0], self.grids[1].place.affine)
            warped = warp_label_map(moving, torch.from_numpy(field)[None])
            common = (set(np.unique(fixed)) & set(np.unique(moving))) - {0}
            overlaps = dice(fixed, warped, sorted(int(label) for label in common))
        if self.points is not None:
            distances = np.linalg.norm(transform(self.points[0]) - self.points[1], axis=0)
            errors = tuple(distances.tolist())
        return Scores(overlaps, errors)


def read_annotations(fixed: ScanFiles, moving: ScanFiles) -> Annotations:
    """Read the labels and landmarks of two scans.

    Args:
        fixed: Files of the fixed scan.
        moving: Files of the moving scan.

    Raises:
        InputError: If a file is unreadable, one scan has what the other one lacks, a label map does
            not lie on the grid of its scan, the label maps have no label in common, or the numbers
            of landmarks differ.
    """
    grids = (read_grid(fixed.image), read_grid(moving.image))
    labels = _both(fixed.labels, moving.labels, "labels")
    points = _both(fixed.points, moving.points, "points")
    scans = (fixed, moving)
    return Annotations(
        grids,
        None if labels is None else _read_label_maps(labels, scans, grids),
        None if points is None else _read_landmarks(points, scans, grids),
    )


def _both(fixed: Path | None, moving: Path | None, what: str) -> tuple[Path, Path] | None:
    if fixed is not None and moving is not None:
        return fixed, moving
    if fixed is None and moving is None:
        return None
    missing, present = ("fixed", "moving") if fixed is None else ("moving", "fixed")
    raise InputError(
        Problem(
            where=f"--{missing}-{what}",
            what="is missing",
            expected=f"{what} of both scans, or of neither",
            found=f"--{present}-{what} alone",
            remedy=f"add --{missing}-{what} FILE",
        )
    )


def _read_label_maps(
    paths: tuple[Path, Path],
    scans: tuple[ScanFiles, ScanFiles],
    grids: tuple[ImageGrid, ImageGrid],
) -> LabelPair:
    raise_if_any(
        problem
        for path, files, grid in zip(paths, scans, grids, strict=True)
        for problem in grid_problems(path, read_grid(path), files.image, grid)
    )
    labels = (read_labels(paths[0]), read_labels(paths[1]))
    first, second = (set(np.unique(each).tolist()) - {0} for each in labels)
    if not first & second:
        raise InputError(
            Problem(
                where=str(paths[1]),
                what=f"has no label of {paths[0]}",
                expected=f"some of {sorted(first)[:10]}",
                found=f"{sorted(second)[:10]}",
                remedy="name label maps of the same numbering",
            )
        )
    return labels


def _read_landmarks(
    paths: tuple[Path, Path],
    scans: tuple[ScanFiles, ScanFiles],
    grids: tuple[ImageGrid, ImageGrid],
) -> PointPair:
    tables = [read_point_table(path).points for path in paths]
    if len(tables[0]) != len(tables[1]):
        raise InputError(
            Problem(
                where=str(paths[1]),
                what=f"does not correspond to {paths[0]}",
                expected=quantity(len(tables[0]), "row"),
                found=quantity(len(tables[1]), "row"),
                remedy="row n of one file must be the same landmark as row n of the other",
            )
        )
    fixed, moving = (
        voxels_to_world(to_ras(files.coordinates, grid), table.T)
        for files, table, grid in zip(scans, tables, grids, strict=True)
    )
    return fixed, moving
