"""What a registration writes: warped scan, transform, picture and report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from l2reg.batch import Batch
from l2reg.geometry.resize import resample
from l2reg.io.files import atomic_write, strict_json
from l2reg.reporting.figures import pair_figure
from l2reg.reporting.registered_pair import RegisteredPair
from l2reg.shapes import Field

DPI = 70  # of pictures


def registered_pair(
    batch: Batch, disp: Field, warped: Float[Tensor, "b 1 fi fj fk"]
) -> RegisteredPair:
    """Return what a picture shows: both scans before and after registration, and the field.

    Args:
        batch: The pair on the working grid, the moving scan after the initial map.
        disp: Field after the initial map, on the working grid.
        warped: Registered moving scan, intensities in [0, 1], on any grid of the fixed scan.
    """
    i, j, k = disp.shape[2:]
    no_labels = np.zeros((i, j, k), dtype=np.int16)
    i_mm, j_mm, k_mm = batch["spacing_mm"][0].tolist()
    return RegisteredPair(
        fixed=batch["fixed"][0, 0].numpy(),
        moving=batch["moving"][0, 0].numpy(),
        warped=resample(warped, (i, j, k))[0, 0].numpy(),
        disp=disp[0].numpy(),
        fixed_labels=no_labels,
        warped_labels=no_labels,
        spacing_mm=(i_mm, j_mm, k_mm),
    )


def draw_picture(path: Path, pair: RegisteredPair, title: str) -> None:
    """Draw slices of both scans before and after registration.

    Args:
        path: PNG file to write.
        pair: The pair.
        title: First line of the picture.
    """
    with atomic_write(path) as temporary:
        pair_figure(pair, title).savefig(temporary, format="png", dpi=DPI)


def write_report(path: Path, content: Mapping[str, Any]) -> None:
    """Write a report as strict JSON.

    Args:
        path: File to write.
        content: Report; its values may be paths and tensors, which become lists.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(strict_json(_plain(content), indent=2) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Tensor):
        return value.tolist()
    return str(value) if isinstance(value, Path) else value
