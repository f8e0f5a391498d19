"""Time the cost volume of a network's finest level, and the memory it takes above its inputs.

python -m benchmarks.operators.bench_cost_volume [--shape 40 48 56] [--radius 3] [--channels 32]

Output and gradients are counted. On the CPU the peak is that of the resident memory, in a process
that does nothing else; allocations are given back at once, so that none hides in another's shadow.
"""

import argparse
import ctypes
import resource
import statistics
import time

import torch

from l2reg.models.cost_volume import cost_volume

M_MMAP_THRESHOLD = -3  # glibc's mallopt


def main() -> None:
    """Print median seconds and peak memory of forward and backward."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=int, nargs=3, default=[40, 48, 56])
    parser.add_argument("--radius", type=int, default=3)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if options.device == "cpu":
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 2**16)

    def run(*shape: int) -> float:
        fixed, moving = (
            torch.rand(1, options.channels, *shape, device=options.device).requires_grad_()
            for _ in range(2)
        )
        before, begin = memory(options.device), time.perf_counter()
        costs = cost_volume(fixed, moving, options.radius)
        torch.autograd.backward(costs, torch.ones_like(costs))
        rise = memory(options.device) - before
        seconds.append(time.perf_counter() - begin)
        return rise

    seconds: list[float] = []
    run(8, 8, 8)  # loads what the first call loads
    rise = run(*options.shape)
    for _ in range(options.repeats):
        run(*options.shape)
    output = 4 * (2 * options.radius + 1) ** 3 * torch.Size(options.shape).numel() / 1e6
    print(f"{options.shape}, radius {options.radius}, {options.channels} channels, float32")
    print(f"forward and backward {statistics.median(seconds[2:]):.2f} s")
    print(
        f"peak {rise / 1e6:.0f} MB above the inputs; output {output:.0f} MB, its gradient as much"
    )


def memory(device: str) -> float:
    """Return the highest number of bytes in use so far."""
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return torch.cuda.max_memory_allocated(device)


if __name__ == "__main__":
    main()
