"""What runs on a GPU is compared with the same on a CPU, in float32 without TF32."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from l2reg.batch import Batch
from l2reg.runtime import configure_convolutions

Pairs = Callable[..., Batch]


@pytest.fixture(autouse=True)
def all_bits() -> Iterator[None]:
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.benchmark
    configure_convolutions("float32", repeated=False)
    yield
    cudnn.allow_tf32, cudnn.benchmark = before


@pytest.fixture
def pairs(rng: torch.Generator) -> Pairs:
    """Make two labelled pairs of smooth random scans, with keypoints, on the CPU."""

    def made(shape: tuple[int, int, int] = (24, 28, 36)) -> Batch:
        def smooth_noise(channels: int) -> Tensor:
            coarse = torch.rand(2, channels, 5, 6, 7, generator=rng)
            return torch.nn.functional.interpolate(coarse, size=shape, mode="trilinear")

        points = torch.rand(2, 9, 3, generator=rng) * torch.tensor(shape).sub(9) + 4
        return {
            "fixed": smooth_noise(1),
            "moving": smooth_noise(1),
            "fixed_mask": (smooth_noise(1) > 0.3).float(),
            "moving_mask": (smooth_noise(1) > 0.3).float(),
            "fixed_labels": smooth_noise(4).argmax(dim=1, keepdim=True).to(torch.int16),
            "moving_labels": smooth_noise(4).argmax(dim=1, keepdim=True).to(torch.int16),
            "label_weight": torch.tensor([1.0, 0.3]),
            "fixed_points": points,
            "moving_points": points + 1.5,
            "point_weights": torch.ones(2, 9),
            "spacing_mm": torch.tensor([[2.0, 1.5, 2.5]]).repeat(2, 1),
        }

    return made
