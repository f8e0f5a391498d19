"""Time ``model=convex`` on a random pair of any size, and measure the memory it takes.

python -m benchmarks.methods.bench_convex --size 256 256 256 --levels 4,4 2,2

The search works on half of the size, as ``model.grid=half`` does: a level searches twice its
stride times its radius far, in voxels. The moving scan is the fixed one, shifted; prints how far
off it ends.
"""

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor

from l2reg.config.build import build
from l2reg.config.presets import load_preset
from l2reg.geometry.resize import resample
from l2reg.runtime import configure_malloc, select_device
from l2reg.shapes import working_shape

SHIFT = (3, -4, 7)  # voxels of the half grid
TEXTURE = 4  # voxels between random values


def random_pair(shape: tuple[int, int, int], device: torch.device) -> dict[str, Tensor]:
    """Return a texture and the same, shifted."""
    i, j, k = (max(2, size // TEXTURE) for size in shape)
    values = torch.rand(1, 1, i, j, k, generator=torch.Generator().manual_seed(0))
    fixed = resample(values, shape).to(device)
    mask = torch.ones_like(fixed)
    moving = fixed.roll(SHIFT, (2, 3, 4))
    return {"fixed": fixed, "moving": moving, "fixed_mask": mask, "moving_mask": mask}


def peak_gib(device: torch.device) -> float:
    """Return the most memory held at once: of the GPU, or of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (line,) = [line for line in status if line.startswith("VmHWM")]
    return int(line.split()[1]) / 2**20


def main() -> None:
    """Search once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, nargs=3, default=(256, 256, 256))
    parser.add_argument("--levels", nargs="+", help="strides and radii, coarsest first")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    configure_malloc()
    device = select_device(options.device)
    shape = working_shape(tuple(options.size), "half")
    batch = random_pair(shape, device)
    node = load_preset("model", "convex")
    if options.levels:
        node |= {"levels": [[int(n) for n in level.split(",")] for level in options.levels]}
    model = build(node)
    begin = time.perf_counter()
    disp = model(batch).disp.cpu()
    seconds = time.perf_counter() - begin
    margin = 2 * max(map(abs, SHIFT))
    inner = disp[..., margin:-margin, margin:-margin, margin:-margin]
    off = (inner - torch.tensor(SHIFT).view(3, 1, 1, 1)).norm(dim=1).mean()
    max_displacement = 2 * model.capture_range
    print(f"{tuple(options.size)} voxels, searched {max_displacement} voxels far, {device.type}")
    print(f"{seconds:.1f} s, peak {peak_gib(device):.2f} GiB, off by {off:.2f} half-grid voxels")


if __name__ == "__main__":
    main()
