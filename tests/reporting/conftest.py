from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from l2reg.reporting.registered_pair import Landmarks, RegisteredPair


@pytest.fixture
def shown() -> Callable[..., RegisteredPair]:
    """A pair of random images with labels, landmarks and a fold."""

    def made(shape: tuple[int, int, int] = (12, 10, 14), **changes: Any) -> RegisteredPair:
        random = np.random.default_rng(4)
        images = [random.uniform(size=shape).astype(np.float32) for _ in range(3)]
        disp = np.zeros((3, *shape), np.float32)
        disp[0, 6] = -3  # the voxels before and after it change places
        labels = np.zeros(shape, np.int16)
        labels[3:9, 2:8, 4:10] = 7
        labels[3:6, 2:8, 4:10] = 2
        landmarks = Landmarks(
            np.array([[4.0, 5.0, 6.0]]), np.array([[1.0, 0.0, -1.0]]), np.array([2.5])
        )
        values: dict[str, Any] = {
            "fixed": images[0], "moving": images[1], "warped": images[2], "disp": disp,
            "fixed_labels": labels, "warped_labels": np.roll(labels, 1, axis=2),
            "spacing_mm": (1.5, 1.0, 2.0), "landmarks": landmarks, "label_names": {7: "liver <b>"},
            **changes,
        }  # fmt: skip
        return RegisteredPair(**values)

    return made
