r"""Run all checks that need a GPU and write one table, in under eight minutes on a GPU.

python -m benchmarks.methods.gpu_checks --out gpu_checks.md
python -m benchmarks.methods.gpu_checks --out checks.md --device cpu --small

Runs the tests of ``make test-gpu``; registers a phantom with ``model=convex`` and its refinement on
the CPU and on the GPU, and compares fields, seconds after a warm-up and how often the host waits;
times copies of a batch from pinned memory and from other memory;
and trains ``unet`` and ``pyramid`` in every precision: steps a second, fraction of the time spent
waiting for data, and memory. With ``--device cpu`` everything but the tests runs on the CPU, in
float32, to check this script alone, and the table says so; ``--small`` takes small phantoms and few
steps.
Exit status 1: a check failed. The phantoms are those of brains, in a temporary folder.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.methods.bench_loops import ours
from benchmarks.methods.networks import composed, table
from l2reg.batch import Batch, to_device
from l2reg.config.build import build
from l2reg.inference.predictor import Predictor
from l2reg.inference.prepare import training_free_method
from l2reg.io.files import atomic_write
from l2reg.phantom.make import make_phantom
from l2reg.runtime import configure_convolutions, configure_malloc, select_device
from l2reg.version import __version__

TESTS_S = 240  # seconds that the tests may take
NETWORKS = ("unet", "pyramid")
PRECISIONS = ("float32", "tf32", "bf16")
MAX_MEDIAN, MAX_P95 = 0.1, 1.0  # voxels between the fields of both devices
COPIES = 20
MAX_WAITING = 0.03  # fraction of a training step on a GPU


@dataclass(frozen=True)
class Check:
    """A row of the table: what was measured, and whether it passed; ``None`` if nothing says so."""

    name: str
    found: str
    passed: bool | None

    def row(self) -> str:
        """Return the row in Markdown."""
        verdict = {True: "passed", False: "FAILED", None: "-"}[self.passed]
        return f"| {self.name} | {self.found} | {verdict} |"


def run_tests(device: torch.device) -> Check:
    """Run the tests that need a GPU."""
    name = "tests marked gpu"
    if device.type == "cpu":
        return Check(name, "not run: no GPU", None)
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TESTS_S, check=False)
    except subprocess.TimeoutExpired:
        return Check(name, f"not done after {TESTS_S} s", passed=False)
    last = (done.stdout.strip() or done.stderr.strip() or "no output").splitlines()[-1]
    return Check(name, last.strip("= "), done.returncode == 0)


def check_registration(given: Sequence[str], device: torch.device) -> list[Check]:
    """Register the validation pair with ``model=convex`` and its refinement on both devices."""
    configure_convolutions("float32", repeated=False)
    config = composed("convex", Path("unused"), given)
    data = build(config["data"], task=build(config["task"]))
    (pair,) = data.split_pairs("val")[:1]
    fields: dict[str, Tensor] = {}
    checks = []
    for name in dict.fromkeys(("cpu", device.type)):
        predictor = Predictor(training_free_method("oasis", torch.device(name)), data.reader)
        batches = predictor.read(pair)
        predictor.solve(batches)
        begin = time.perf_counter()
        fields[name] = predictor.solve(batches).cpu()
        seconds = time.perf_counter() - begin
        with warnings.catch_warnings(record=True) as waits:
            warnings.simplefilter("always")
            if name == "cuda":
                torch.cuda.set_sync_debug_mode("warn")
                predictor.solve(batches)
                torch.cuda.set_sync_debug_mode("default")
        waited = f", the host waits {len(waits)} times" if name == "cuda" else ""
        checks.append(Check(f"convex and refinement, {name}", f"{seconds:.2f} s{waited}", None))
    if device.type == "cuda":
        checks.append(compare_fields(fields["cpu"], fields["cuda"]))
    return checks


def compare_fields(cpu: Tensor, gpu: Tensor) -> Check:
    """Compare the fields of both devices, which differ where offsets are nearly as good."""
    distance = (cpu - gpu).norm(dim=1).flatten()
    median = float(distance.median())
    p95 = float(distance.kthvalue(max(1, round(0.95 * len(distance)))).values)
    found = f"median {median:.3f}, 95 % below {p95:.3f} voxels"
    return Check("fields of both devices", found, median < MAX_MEDIAN and p95 < MAX_P95)


def check_copies(device: torch.device, shape: tuple[int, int, int]) -> list[Check]:
    """Copy two images of ``shape`` to the device, from pinned memory and from other memory."""
    batch: Batch = {"fixed": torch.rand(1, 1, *shape), "moving": torch.rand(1, 1, *shape)}
    checks = []
    for name, pinned in (("pinned", True), ("other", False)):
        seconds = []
        for _ in range(COPIES):
            begin = time.perf_counter()
            to_device(batch, device, pinned=pinned)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - begin)
        found = f"{1000 * statistics.median(seconds):.2f} ms"
        checks.append(Check(f"copy of two images from {name} memory", found, None))
    return checks


def check_training(
    given: Sequence[str], device: torch.device, steps: int, folder: Path
) -> list[Check]:
    """Train each network in each precision; on a GPU it must hardly wait for data.

    A CPU trains in float32 alone: bf16 takes minutes a step on some.
    """
    checks = []
    for network in NETWORKS:
        for precision in PRECISIONS if device.type == "cuda" else PRECISIONS[:1]:
            options = [*given, f"device={device.type}", f"trainer.precision={precision}",
                       f"trainer.max_steps={steps}", "trainer.picture_every=0",
                       "loss.weights.dice=1", f"data.cache={folder / 'cache'}"]  # fmt: skip
            speed = ours(composed(network, folder / f"{network}_{precision}", options))
            found = f"{1 / speed.seconds:.2f} steps/s, {100 * speed.waiting:.1f} % waiting"
            passed = None
            if device.type == "cuda":
                found += f", {speed.gib:.2f} GiB"
                passed = speed.waiting < MAX_WAITING
            checks.append(Check(f"training {network}, {precision}", found, passed))
    return checks


def report(checks: Sequence[Check], device: torch.device, *, small: bool, seconds: float) -> str:
    """Return the page: card, date, versions, and the table."""
    if device.type == "cuda":
        card = torch.cuda.get_device_name(device)
    else:
        card = "no GPU: this run checks the script alone, its numbers are those of a CPU"
    size = "small phantoms" if small else "phantoms of full size"
    return "\n".join(
        [
            "# GPU checks",
            "",
            f"- card: {card}",
            f"- date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            f"- l2reg {__version__}, PyTorch {torch.__version__}, {size}, {seconds:.0f} s in all",
            "",
            table(["check", "found", "verdict"], [check.row() for check in checks]),
            "",
        ]
    )


def main() -> None:
    """Run all checks, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="Markdown file to write")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="small phantoms, four steps")
    options = parser.parse_args()
    configure_malloc()
    device = select_device(options.device)
    begin = time.perf_counter()
    checks = [run_tests(device)]
    size, steps = ("small", 4) if options.small else ("full", 40)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_phantom("oasis", folder / "phantoms", n_pairs=4, size=size, seed=0)
        given = ["task=phantom", "task.flavour=oasis", "task.pairs=4", f"task.size={size}",
                 f"+task.root={folder / 'phantoms'}"]  # fmt: skip
        checks += check_registration(given, device)
        checks += check_copies(device, (160, 192, 224))
        checks += check_training(given, device, steps, folder)
    page = report(checks, device, small=options.small, seconds=time.perf_counter() - begin)
    print(page)
    with atomic_write(options.out) as temporary:
        temporary.write_text(page, encoding="utf-8")
    if any(check.passed is False for check in checks):
        sys.exit(1)


if __name__ == "__main__":
    main()
