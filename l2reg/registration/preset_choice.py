"""Choice of the settings for two scans of unknown origin, by what they show: ``--like auto``."""

from collections.abc import Sequence

import numpy as np

from l2reg.config.presets import CHALLENGE_TASKS
from l2reg.data.intensity import Region
from l2reg.io.volumes import Volume
from l2reg.problems import InputError, Problem, suggest
from l2reg.registration.modality import WORDS, Modality
from l2reg.registration.working_grid import Views

AUTO = "auto"
PRESETS = (AUTO, *CHALLENGE_TASKS, *WORDS.values())
_SAME = {word: preset for preset, word in WORDS.items()}

_LUNG_HU = (-950, -500)
_MIN_LUNG = 1.0  # litres
_MIN_LUNG_FRACTION = 0.12  # of lung and body; the bases in a scan of the abdomen are less
_BRAIN = (0.7, 2.5)  # litres of a skull-stripped brain, with its rim
_MM3_PER_LITRE = 1e6


def preset_name(name: str) -> str:
    """Return the name of a preset in ``configs/``, or ``auto``.

    Raises:
        InputError: If there is none.
    """
    if name in PRESETS:
        return _SAME.get(name, name)
    raise InputError(
        Problem(
            where=f"--like {name}",
            what="is unknown",
            expected=", ".join(PRESETS),
            found=name,
            remedy=suggest(name, PRESETS),
        )
    )


def choose_preset(
    scans: Sequence[Volume], views: Views, modalities: Sequence[Modality]
) -> tuple[str, str]:
    """Return the preset for two scans, and the reason in words.

    Two CT whose field of view has lungs are a ``lung``; two scans of black with as much tissue as a
    brain are ``oasis``; ``abdomen`` is for all others.

    Args:
        scans: The fixed and the moving scan.
        views: Their fields of view.
        modalities: Their modalities.
    """
    if set(modalities) == {"CT"}:
        lungs = [_lung(scan, view) for scan, view in zip(scans, views, strict=True)]
        shares = " and ".join(f"{100 * fraction:.0f} %" for _, fraction in lungs)
        if all(litres >= _MIN_LUNG and part >= _MIN_LUNG_FRACTION for litres, part in lungs):
            return "lung", f"both are CT, and lungs fill {shares} of the body"
        return "abdomen", f"both are CT, but lungs fill only {shares} of the body"
    if "CT" in modalities:
        return "abdomen", "only one of the scans is a CT"
    litres = [_tissue_litres(scan) for scan in scans]
    said = " and ".join(f"{volume:.1f}" for volume in litres)
    if all(_BRAIN[0] <= volume <= _BRAIN[1] for volume in litres):
        return "oasis", f"no CT, and {said} litres on black are those of a brain without skull"
    return "abdomen", f"no CT, and {said} litres are not those of a brain without skull"


def _lung(scan: Volume, view: Region) -> tuple[float, float]:
    """Return the litres that are as dense as lung, and their fraction of what is no air."""
    low, high = _LUNG_HU
    inside = scan.array[view]
    n_lung = int(((inside > low) & (inside < high)).sum())
    n_body = int((inside >= high).sum())
    return n_lung * _voxel_litres(scan), n_lung / max(n_lung + n_body, 1)


def _tissue_litres(scan: Volume) -> float:
    """Return the litres that are brighter than the lowest intensity."""
    return float((scan.array > scan.array.min()).sum()) * _voxel_litres(scan)


def _voxel_litres(scan: Volume) -> float:
    return float(np.prod(scan.spacing_mm)) / _MM3_PER_LITRE
