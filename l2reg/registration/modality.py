"""Modality of a scan of unknown origin: CT in Hounsfield units, or anything else."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32

from l2reg.data.intensity import Region

Modality = Literal["CT", "other"]
WORDS = {"oasis": "brain"}  # of presets in ``--like``, where another one than their name is better

_AIR_HU = -200  # a CT has air or lung, below this
_LOWEST_HU = -1200  # 1 % of the voxels may lie below this: metal and noise
_TISSUE_HU = (-150, 250)  # fat, water and soft tissue
_MIN_TISSUE = 0.05  # fraction of the voxels


def word_of(preset: str) -> str:
    """Return the word after ``--like`` that chooses a preset, as messages name it."""
    return WORDS.get(preset, preset)


def modality(image: Float32[np.ndarray, "i j k"], view: Region) -> Modality:
    """Tell a CT in Hounsfield units by its intensities: air below -200 HU, and soft tissue near 0.

    Args:
        image: Intensities of a scan.
        view: Its field of view, see ``field_of_view``.
    """
    inside = image[view]
    if inside.size == 0:
        return "other"
    lowest, air = np.percentile(inside, [1, 5])
    low, high = _TISSUE_HU
    tissue = ((inside >= low) & (inside <= high)).mean()
    is_ct = lowest >= _LOWEST_HU and air <= _AIR_HU and tissue >= _MIN_TISSUE
    return "CT" if is_ct else "other"


def preset_flags(paths: Sequence[Path], modalities: Sequence[Modality], preset: str) -> list[str]:
    """Return warnings where a preset is meant for scans of another modality.

    Args:
        paths: The files of the two scans.
        modalities: Their modalities.
        preset: Name of the preset: ``abdomen`` is for any scans.
    """
    if preset == "lung":
        return [
            f"--like lung is for CT in Hounsfield units, and {path} is none: its percentiles are "
            "used in place of the window"
            for path, kind in zip(paths, modalities, strict=True)
            if kind != "CT"
        ]
    if preset == "oasis" and len(set(modalities)) > 1:
        ct = paths[list(modalities).index("CT")]
        return [f"--like {word_of(preset)} is for two scans of one contrast, and only {ct} is a "
                "CT; --like abdomen is for two contrasts"]  # fmt: skip
    return []
