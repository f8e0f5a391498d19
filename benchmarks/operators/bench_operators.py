"""Time the operators of training and refinement beside plain forms and peers; with exact values.

    python -m benchmarks.operators.bench_operators [--shape 160 192 224] [--threads 2] [--only dice]

Every row is the forward and backward pass of one form of an operator in float32, in a fresh
process: median seconds of ``--repeats`` runs after a small one (the forms of an operator take
turns), their ratio to ours, the rise of the peak memory above the inputs, and the largest
difference of the gradient to that of the plain form in float64, relative to its largest value, on
an eighth of the grid. The table is appended to ``benchmarks/results/operators.md`` with the date
and the kind of machine. MONAI's LNCC fills windows up with zeros at the border: it is another
function there.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import torch
import torch.nn.functional as F
from monai.losses.image_dissimilarity import LocalNormalizedCrossCorrelationLoss
from monai.networks.blocks.warp import DVF2DDF, Warp
from torch import Tensor

from l2reg.features.mind import EDGES, NEIGHBOURS, NOISE, mind_ssc
from l2reg.geometry.compose import integrate
from l2reg.geometry.warp import warp
from l2reg.losses.dice import soft_dice_loss, warped_dice_loss
from l2reg.losses.local_ncc import FLAT_VARIANCE, local_ncc
from l2reg.models.cost_volume import cost_volume
from l2reg.runtime import configure_malloc

RESULTS = Path(__file__).parents[1] / "results" / "operators.md"
LABELS, WINDOW, SQUARINGS, CHANNELS = 35, 9, 7, 32

Form = Callable[[Tensor, Tensor], Tensor]


def smooth_noise(shape: tuple[int, ...], channels: int, seed: int) -> Tensor:
    """Return smooth noise of standard deviation near 1."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, channels, *(max(2, n // 8) for n in shape), generator=random)
    return F.interpolate(coarse, size=shape, mode="trilinear")


def label_map(shape: tuple[int, ...]) -> Tensor:
    """Return a map of ``LABELS`` labels and background, in blobs."""
    steps = (smooth_noise(shape, 1, 3) + 1.5) * LABELS / 3
    return steps.clamp(0, LABELS).to(torch.int16)


def plain_mean(volume: Tensor, window: int) -> Tensor:
    """Return the box mean by average pooling along one axis after the other."""
    for axis in range(3):
        size, padding = [1, 1, 1], [0, 0, 0]
        size[axis], padding[axis] = window, window // 2
        volume = F.avg_pool3d(volume, size, 1, padding, count_include_pad=False)
    return volume


def plain_dice(fixed: Tensor, disp: Tensor) -> Tensor:
    """Return the Dice loss of one-hot volumes."""
    labels = torch.arange(1, LABELS + 1).view(1, -1, 1, 1, 1)
    one_hot = [(volume == labels).to(disp.dtype) for volume in (shifted(fixed), fixed)]
    warped = warp(one_hot[0], disp, padding="zeros")
    return soft_dice_loss(warped, one_hot[1], volume_exponent=0.0)


def shifted(labels: Tensor) -> Tensor:
    """Return the moving labels: the fixed ones a few voxels away."""
    return labels.roll((2, 1, 2), (2, 3, 4))


def plain_lncc(fixed: Tensor, warped: Tensor) -> Tensor:
    """Return the squared local correlation by autograd."""
    fixed, warped = (image - image.detach().mean() for image in (fixed, warped))
    first, second = plain_mean(fixed, WINDOW), plain_mean(warped, WINDOW)
    covariance = plain_mean(fixed * warped, WINDOW) - first * second
    variances = [
        (plain_mean(image * image, WINDOW) - mean * mean).clamp(min=FLAT_VARIANCE)
        for image, mean in ((fixed, first), (warped, second))
    ]
    return (covariance**2 / (variances[0] * variances[1])).clamp(max=1)


def plain_mind(radius: int) -> Form:
    """Return MIND-SSC by autograd, its image in [0, 1]."""

    def descriptors(_: Tensor, image: Tensor) -> Tensor:
        low, high = image.detach().amin(), image.detach().amax()
        padded = F.pad((image - low) / (high - low), [2] * 6, mode="replicate")
        ends = [[slice(2 * (1 + o), 2 * (1 + o) + n) for o, n in zip(offset, image.shape[2:],
                strict=True)] for offset in NEIGHBOURS]  # fmt: skip
        sides = [padded[:, :, *end] for end in ends]
        squares = torch.cat([(sides[a] - sides[b]).square() for a, b in EDGES], dim=1)
        distance = plain_mean(squares, 2 * radius + 1)
        distance = distance - distance.amin(dim=1, keepdim=True)
        variance = distance.mean(dim=1, keepdim=True)
        typical = variance.detach().mean()
        return torch.exp(-distance / (variance.clamp(typical * 1e-3, typical * 1e3) + NOISE))

    return descriptors


def plain_warp(moving: Tensor, disp: Tensor) -> Tensor:
    """Return ``moving`` warped by one call of ``grid_sample``."""
    axes = [torch.arange(n, dtype=disp.dtype) for n in disp.shape[2:]]
    at = disp + torch.stack(torch.meshgrid(*axes, indexing="ij"))
    last = at.new_tensor(disp.shape[2:]).view(3, 1, 1, 1) - 1
    grid = (2 * at / last - 1).flip(1).movedim(1, -1)
    return F.grid_sample(moving, grid, padding_mode="border", align_corners=True)  # noqa: TID251


def plain_integrate(_: Tensor, velocity: Tensor) -> Tensor:
    """Return the field by scaling and squaring with ``plain_warp``."""
    disp: Tensor = velocity / 2.0**SQUARINGS
    for _step in range(SQUARINGS):
        disp = disp + plain_warp(disp, disp)
    return disp


def plain_cost_volume(radius: int) -> Form:
    """Return the correlation of all offsets in a loop."""

    def costs(fixed: Tensor, moving: Tensor) -> Tensor:
        padded, (i, j, k) = F.pad(moving, [radius] * 6), fixed.shape[2:]
        cubes = product(range(2 * radius + 1), repeat=3)
        windows = [(slice(a, a + i), slice(b, b + j), slice(c, c + k)) for a, b, c in cubes]
        return torch.stack([(fixed * padded[:, :, *w]).mean(dim=1) for w in windows], dim=1)

    return costs


def monai_forms() -> dict[str, Form]:
    """Return MONAI's forms by the name of the operator."""
    block: Form = Warp(padding_mode="border")  # type: ignore[no-untyped-call]
    integral = DVF2DDF(SQUARINGS, padding_mode="border")
    lncc = LocalNormalizedCrossCorrelationLoss(kernel_size=WINDOW, reduction="none")
    return {
        "warp": block,
        "integrate": lambda _, velocity: integral(velocity),
        "lncc": lambda fixed, warped: -lncc(warped, fixed),
    }


OURS: dict[str, Form] = {
    "warp": warp,
    "integrate": lambda _, velocity: integrate(velocity, squarings=SQUARINGS),
    "lncc": lambda fixed, warped: local_ncc(fixed, warped, window=WINDOW)[0],
    "mind1": lambda _, image: mind_ssc(image, radius=1, dilation=2),
    "mind2": lambda _, image: mind_ssc(image, radius=2, dilation=2),
    "dice": lambda fixed, disp: warped_dice_loss(fixed, shifted(fixed), disp, volume_exponent=0.0),
    "cost1": lambda fixed, moving: cost_volume(fixed, moving, 1),
    "cost3": lambda fixed, moving: cost_volume(fixed, moving, 3),
}
PLAIN: dict[str, Form] = {
    "warp": plain_warp,
    "integrate": plain_integrate,
    "lncc": plain_lncc,
    "mind1": plain_mind(1),
    "mind2": plain_mind(2),
    "dice": plain_dice,
    "cost1": plain_cost_volume(1),
    "cost3": plain_cost_volume(3),
}


def inputs(operator: str, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return both inputs of an operator; the second one has the gradient."""
    if operator.startswith("cost"):
        quarter = tuple(max(2, n // 4) for n in shape)
        return smooth_noise(quarter, CHANNELS, 1), smooth_noise(quarter, CHANNELS, 2)
    random = torch.Generator().manual_seed(0)
    image = torch.rand(1, 1, *shape, generator=random)
    if operator in ("lncc", "mind1", "mind2"):
        return image, 0.5 * image + 0.5 * torch.rand(1, 1, *shape, generator=random)
    return (label_map(shape) if operator == "dice" else image), 2 * smooth_noise(shape, 3, 4)


def gradient(form: Form, first: Tensor, second: Tensor) -> Tensor:
    """Return the gradient of the mean square of an operator's output."""
    second = second.clone().requires_grad_()
    form(first, second).square().mean().backward()  # type: ignore[no-untyped-call]
    assert second.grad is not None
    return second.grad


def measure(operator: str, form: str, shape: tuple[int, ...]) -> dict[str, float]:
    """Return seconds, memory in MB and the relative error of one form."""
    forms = {"ours": OURS, "plain": PLAIN}.get(form) or monai_forms()
    function = forms[operator]
    gradient(function, *inputs(operator, (16, 20, 24)))  # loads what the first call loads
    first, second = inputs(operator, shape)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.perf_counter()
    gradient(function, first, second)
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    first, second = inputs(operator, tuple(n // 2 for n in shape))
    exact = first.double() if first.is_floating_point() else first
    expected = gradient(PLAIN[operator], exact, second.double())
    error = float((gradient(function, first, second) - expected).abs().max() / expected.abs().max())
    return {"seconds": seconds, "mb": peak / 1024, "error": error}


def main() -> None:
    """Print the table and append it to the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", type=int, nargs=3, default=[160, 192, 224])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=OURS, default=list(OURS))
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        torch.set_num_threads(options.threads)
        configure_malloc()
        operator, form = options.one
        print(json.dumps(measure(operator, form, tuple(options.shape))))
        return
    size = "x".join(map(str, options.shape))
    header = (
        f"\n## {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {options.threads} threads, "
        f"{size}, torch {torch.__version__.partition('+')[0]}\n\n"
        "| operator | form | s | ratio | MB | error |\n|---|---|---|---|---|---|"
    )
    with RESULTS.open("a", encoding="utf-8") as file:
        print(header)
        print(header, file=file)
        for operator in options.only:
            forms = ["ours", "plain", *(["MONAI"] if operator in monai_forms() else [])]
            for row in table_rows(operator, forms, options):
                print(row, flush=True)
                print(row, file=file, flush=True)


def table_rows(operator: str, forms: list[str], options: argparse.Namespace) -> list[str]:
    """Return a row of the table for each form; the forms take turns."""
    runs: dict[str, list[dict[str, float]]] = {form: [] for form in forms}
    shared = ["--threads", str(options.threads), "--shape", *map(str, options.shape)]
    for _ in range(options.repeats):
        for form in forms:
            command = [sys.executable, "-m", "benchmarks.operators.bench_operators", *shared]
            done = subprocess.run(
                [*command, "--one", operator, form], check=True, capture_output=True, text=True
            )
            runs[form].append(json.loads(done.stdout.splitlines()[-1]))
    medians = {
        form: {key: statistics.median(run[key] for run in of_form) for key in of_form[0]}
        for form, of_form in runs.items()
    }
    ours = medians["ours"]["seconds"]
    return [
        f"| {operator} | {form} | {m['seconds']:.2f} | {m['seconds'] / ours:.2f} "
        f"| {m['mb']:.0f} | {m['error']:.1e} |"
        for form, m in medians.items()
    ]


if __name__ == "__main__":
    main()
