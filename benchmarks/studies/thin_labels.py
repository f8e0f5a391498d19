"""What interpolations of labels do to a layer and a tube about a voxel thick.

python -m benchmarks.studies.thin_labels

A shell 1.1 mm thick, by itself and around an organ, and a winding tube 1.5 mm wide, drawn on a grid
of 1 mm, are turned by 25 degrees onto grids of several spacings. Compared with the shape drawn
there directly: Dice, volume, and the number of pieces (26 neighbours). ``blurred`` is label-linear
of indicators smoothed by a Gaussian of that many voxels, as ANTs' MultiLabel does.
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, label, map_coordinates

from l2reg.transforms.warped_scan import warp_label_map

MOVING = (44, 40, 42)
SPACINGS = 0.5, 1.0, 1.5, 2.0  # mm, of the fixed grids
SIGMAS = 0.4, 0.7, 1.0  # voxels
ANGLES = 0.35, -0.25  # radians, about two axes
EXTENT = 38  # mm, of the fixed grids


def shell(points: np.ndarray, inside: int = 0) -> np.ndarray:
    """Return 1 in an ellipsoid's shell, and ``inside`` within it."""
    radius = 14 * np.sqrt(((points / np.reshape((14, 11.2, 12.6), (3, 1))) ** 2).sum(axis=0))
    labels: np.ndarray = np.where(np.abs(radius - 14) < 0.55, 1, np.where(radius < 14, inside, 0))
    return labels


def tube(points: np.ndarray) -> np.ndarray:
    """Return 1 in a winding tube."""
    x, y, z = points
    away = np.hypot(x - 3 * np.sin(z / 5), y - 3 * np.cos(z / 5))
    labels: np.ndarray = ((away < 0.75) & (np.abs(z) < 14)).astype(int)
    return labels


SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "shell": shell,
    "shell of an organ": lambda points: shell(points, inside=2),
    "tube": tube,
}


def voxels(shape: tuple[int, ...]) -> np.ndarray:
    """Return the positions of all voxels, from the middle of the grid."""
    indices = np.indices(shape).reshape(3, -1)
    middle = (np.array(shape)[:, None] - 1) / 2
    return np.asarray(indices - middle)


def blurred(labels: np.ndarray, positions: np.ndarray, sigma: float) -> np.ndarray:
    """Return the label of the largest smoothed indicator at voxel positions, 3 by n."""
    weights = []
    for value in np.unique(labels):
        indicator = gaussian_filter((labels == value).astype(float), sigma)
        weights.append(map_coordinates(indicator, positions, order=1))
    return np.asarray(np.unique(labels)[np.argmax(weights, axis=0)])


def main() -> None:
    """Print the table."""
    a, b = ANGLES
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    print(
        "| shape | mm | interpolation | Dice | volume | pieces (true) |\n|---|---|---|---|---|---|"
    )
    for name, draw in SHAPES.items():
        moving = draw(voxels(MOVING)).reshape(MOVING).astype(np.int16)
        for spacing in SPACINGS:
            shape = (round(EXTENT / spacing),) * 3
            points = turn @ tilt @ (spacing * voxels(shape)) + [[0.3], [0.45], [-0.2]]
            positions = points + (np.array(MOVING)[:, None] - 1) / 2
            disp = torch.from_numpy(positions.reshape(3, *shape) - np.indices(shape))[None]
            found = {
                "nearest": warp_label_map(moving, disp.float(), "nearest"),
                "label-linear": warp_label_map(moving, disp.float(), "label-linear"),
                **{f"blurred {s}": blurred(moving, positions, s).reshape(shape) for s in SIGMAS},
            }
            true = draw(points).reshape(shape) == 1
            for interpolation, labels in found.items():
                ours, pieces = (
                    labels == 1,
                    [label(x == 1, np.ones((3, 3, 3)))[1] for x in (labels, true)],
                )
                dice = 2 * (ours & true).sum() / (ours.sum() + true.sum())
                print(f"| {name} | {spacing} | {interpolation} | {dice:.2f} "
                      f"| {ours.sum() / true.sum():.2f} | {pieces[0]} ({pieces[1]}) |")  # fmt: skip


if __name__ == "__main__":
    main()
