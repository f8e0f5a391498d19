"""Figures of one registered pair: images, overlays, deformed grid and volume change."""

from typing import Literal

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from l2reg.evaluation.volume_change import determinants
from l2reg.reporting.registered_pair import RegisteredPair, Volume

GRID_LINES = 26  # number of grid lines along the longest side of a plane
COLUMNS = (
    "fixed",
    "moving",
    "warped",
    "before: fixed, moving",
    "after: fixed, warped",
    "grid, deformed",
    "volume change",
)
LEGEND = (
    "overlays: fixed magenta, moving or warped green, grey where they agree"
    "  |  outlines, if any: fixed yellow, warped cyan"
    "  |  volume: blue shrinks, red grows, black folds"
)


def pair_figure(pair: RegisteredPair, title: str) -> Figure:
    """Return a figure of the three middle planes of a pair, one row for each array axis.

    The columns are ``COLUMNS``: images, overlays, deformed grid and Jacobian determinant. Planes
    are drawn in the proportions of millimetres. ``LEGEND``, below the title, explains the colours.
    """
    det = np.pad(determinants(pair.disp), 1, mode="edge")
    figure = Figure(figsize=(3 * len(COLUMNS), 9), layout="constrained")
    figure.suptitle(f"{title}\n{LEGEND}")
    rows = figure.subplots(3, len(COLUMNS))
    for axis, row in enumerate(rows):
        _draw_plane(pair, det, axis, list(row))
        for cell in row:
            cell.set_axis_off()
    for cell, heading in zip(rows[0], COLUMNS, strict=True):
        cell.set_title(heading)
    return figure


def determinant_figure(disp: Float[np.ndarray, "3 i j k"]) -> Figure:
    """Return a histogram of the Jacobian determinant of a field, with folds in red.

    Args:
        disp: Field in voxels of its grid.
    """
    det = determinants(disp).ravel()
    figure = Figure(figsize=(6, 3), layout="constrained")
    cell = figure.subplots()
    cell.hist(det, bins=120, color="#4878a8")
    if det.min() <= 0:
        cell.axvspan(det.min(), 0, color="#c03030", alpha=0.3)
    cell.axvline(1, color="black", linewidth=0.8)
    cell.set_yscale("log")
    cell.set_xlabel("Jacobian determinant (1: volume kept, 0 and below: fold)")
    cell.set_ylabel("voxels")
    folds = 100 * float((det <= 0).mean())
    cell.set_title(f"{folds:.3f} % folds, from {det.min():.2f} to {det.max():.2f}")
    return figure


def _draw_plane(pair: RegisteredPair, det: Volume, axis: int, row: list[Axes]) -> None:
    """Draw the middle plane across one array axis in all columns of a row."""

    def plane(volume: Volume) -> np.ndarray:
        """Return the middle slice, transposed so that its first axis runs to the right."""
        middle: np.ndarray = np.take(volume, volume.shape[axis] // 2, axis=axis).T
        return middle

    # In most tasks i grows to the left, j to the back and k to the head. Head and face are up.
    origin: Literal["upper", "lower"] = "upper" if axis == 2 else "lower"
    fixed, moving, warped = plane(pair.fixed), plane(pair.moving), plane(pair.warped)
    for cell, image in zip(row, (fixed, moving, warped), strict=False):
        cell.imshow(image, cmap="gray", vmin=0, vmax=1, origin=origin)
    _draw_outlines(row[0], plane(pair.fixed_labels), "yellow")
    _draw_outlines(row[2], plane(pair.fixed_labels), "yellow")
    _draw_outlines(row[2], plane(pair.warped_labels), "cyan")
    row[3].imshow(_overlay(fixed, moving), origin=origin)
    row[4].imshow(_overlay(fixed, warped), origin=origin)
    across, up = (other for other in range(3) if other != axis)
    _draw_grid(
        row[5], plane(pair.disp[across]), plane(pair.disp[up]), upside_down=origin == "upper"
    )
    change = np.log2(np.clip(plane(det), 1e-3, 1e3))
    row[6].imshow(change, cmap="RdBu_r", vmin=-1.5, vmax=1.5, origin=origin)
    folds = np.where(plane(det) <= 0, 1.0, np.nan)
    row[6].imshow(folds, cmap="gray", vmin=1, vmax=2, origin=origin)
    for cell in row:
        cell.set_aspect(pair.spacing_mm[up] / pair.spacing_mm[across])


def _draw_outlines(cell: Axes, labels: np.ndarray, color: str) -> None:
    for label in np.unique(labels):
        if label != 0:
            cell.contour(labels == label, [0.5], colors=color, linewidths=0.6)


def _overlay(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return an RGB image with the first image in magenta and the second in green."""
    overlay: np.ndarray = np.clip(np.stack([first, second, first], axis=-1), 0, 1)
    return overlay


def _draw_grid(cell: Axes, across: np.ndarray, up: np.ndarray, *, upside_down: bool) -> None:
    """Draw a regular grid deformed by the two components of a field in a plane, in voxels."""
    rows, columns = np.indices(across.shape)
    x, y = columns + across, rows + up
    step = max(1, max(across.shape) // GRID_LINES)
    cell.plot(x[::step].T, y[::step].T, color="#305070", linewidth=0.5)
    cell.plot(x[:, ::step], y[:, ::step], color="#305070", linewidth=0.5)
    if upside_down:
        cell.invert_yaxis()
