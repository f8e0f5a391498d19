"""Draw the pictures of the documentation: ``python docs/make_figures.py``."""

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from l2reg.geometry.resize import resize_field
from l2reg.geometry.warp import sample_at_points, warp

IMAGES = Path(__file__).parent / "images"
SHAPE = (9, 7, 3)  # not cubic, so that no two axes can be mistaken for each other
FIXED_VOXEL = (5, 2, 1)
DISP = (-3.0, 2.0, 0.0)


def convention_figure() -> Figure:
    """Return fixed, moving and warped image of one bright voxel under a constant field."""
    disp = torch.tensor(DISP).reshape(1, 3, 1, 1, 1).expand(1, 3, *SHAPE).contiguous()
    fixed, moving = torch.zeros(1, 1, *SHAPE), torch.zeros(1, 1, *SHAPE)
    target = tuple(int(q + d) for q, d in zip(FIXED_VOXEL, DISP, strict=True))
    fixed[0, 0][FIXED_VOXEL] = 1
    moving[0, 0][target] = 1
    warped = warp(moving, disp)
    points = torch.tensor([[FIXED_VOXEL]], dtype=torch.float32)
    mapped = points + sample_at_points(disp, points)
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    cells = figure.subplots(1, 3)
    titles = (
        "fixed: landmark q = (5, 2, 1)",
        f"moving: q + disp(q) = ({', '.join(f'{x:.0f}' for x in mapped[0, 0].tolist())})",
        "warped(p) = moving(p + disp(p))",
    )
    for cell, image, title in zip(cells, (fixed, moving, warped), titles, strict=True):
        cell.imshow(image[0, 0, :, :, FIXED_VOXEL[2]].numpy(), cmap="Blues", vmin=0, vmax=1.5)
        cell.set_title(title)
        cell.set_xlabel("j: array axis 1")
        cell.set_ylabel("i: array axis 0")
        cell.set_xticks(np.arange(SHAPE[1]))
        cell.set_yticks(np.arange(SHAPE[0]))
        cell.set_xticks(np.arange(-0.5, SHAPE[1]), minor=True)
        cell.set_yticks(np.arange(-0.5, SHAPE[0]), minor=True)
        cell.grid(which="minor", color="#cccccc", linewidth=0.5)
        cell.tick_params(which="minor", length=0)
    start, end = FIXED_VOXEL[1::-1], target[1::-1]
    cells[1].plot(*start, "o", color="#888888", fillstyle="none", markersize=14)
    cells[1].add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=18, color="#c03030", lw=2)
    )
    cells[1].text(2.9, 4.6, f"disp(q) =\n{tuple(int(d) for d in DISP)}", color="#c03030")
    figure.suptitle("The field lives on the fixed grid and points into the moving image")
    return figure


def grids_figure() -> Figure:
    """Return the full and the half grid of two axes, and one displacement on both."""
    full, half = (9, 7), (5, 4)
    disp = torch.zeros(1, 3, *full, 3)
    disp[:, 0], disp[:, 1] = 4.0, 2.0
    on_half = resize_field(disp, (*half, 3))[0, :, 0, 0, 0]
    figure = Figure(figsize=(6, 4.6), layout="constrained")
    cell = figure.subplots()
    i, j = np.indices(full)
    cell.plot(j.ravel(), i.ravel(), ".", color="#4878a8", label="full grid, 9 x 7")
    ratio = [(n - 1) / (m - 1) for n, m in zip(full, half, strict=True)]
    i, j = np.indices(half)
    cell.plot(ratio[1] * j.ravel(), ratio[0] * i.ravel(), "o", color="#c03030", fillstyle="none",
              markersize=11, label="half grid, 5 x 4: the corners are the same")  # fmt: skip
    arrow = FancyArrowPatch((2, 2), (4, 6), arrowstyle="-|>", mutation_scale=18, color="black")
    cell.add_patch(arrow)
    x, y = (f"{float(value):g}" for value in on_half[:2])
    cell.set(xlabel="j: array axis 1", ylabel="i: array axis 0", xlim=(-0.7, 6.7), ylim=(8.7, -0.7))
    cell.set_title(f"One movement: (4, 2) full voxels, ({x}, {y}) half voxels")
    cell.set_aspect("equal")
    figure.legend(loc="outside lower center")
    return figure


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    for name, figure in (("convention", convention_figure()), ("grids", grids_figure())):
        figure.savefig(IMAGES / f"{name}.png", dpi=110)
        print(IMAGES / f"{name}.png")
