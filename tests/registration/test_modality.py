from pathlib import Path

import numpy as np
import pytest

from l2reg.registration.modality import Modality, modality, preset_flags

SHAPE = (20, 24, 18)
WHOLE = np.ones(SHAPE, dtype=bool)
CT, MR = Path("ct.nii.gz"), Path("mr.nii.gz")


def scan(random: np.random.Generator, parts: list[tuple[float, float, float]]) -> np.ndarray:
    """Return intensities of which a fraction each has a mean and a standard deviation."""
    fractions, means, deviations = zip(*parts, strict=True)
    kinds = random.choice(len(parts), SHAPE, p=fractions)
    noise = random.standard_normal(SHAPE)
    values = np.array(means)[kinds] + noise * np.array(deviations)[kinds]
    return values.astype(np.float32)


@pytest.mark.parametrize(
    "parts",
    [
        [(0.3, -1000, 10), (0.3, -800, 60), (0.3, -50, 60), (0.1, 300, 200)],  # chest
        [(0.1, -1000, 20), (0.8, 30, 50), (0.1, 700, 200)],  # head, cut close
        [(0.5, -1000, 5), (0.5, 40, 30)],
    ],
)
def test_a_ct_in_hounsfield_units_is_recognised(
    random: np.random.Generator, parts: list[tuple[float, float, float]]
) -> None:
    assert modality(scan(random, parts), WHOLE) == "CT"


@pytest.mark.parametrize(
    "parts",
    [
        [(0.5, 0, 5), (0.5, 600, 200)],  # MR
        [(0.6, -0.6, 0.1), (0.4, 1.0, 0.5)],  # MR, normalised
        [(0.5, 24, 10), (0.5, 1064, 30)],  # CT + 1024
        [(0.5, 0.0, 0.01), (0.5, 0.6, 0.1)],  # CT in [0, 1]
        [(0.5, -2000, 800), (0.5, 2000, 800)],  # phase of MR
        [(1.0, 40, 20)],  # cut inside a liver: no air is in sight
    ],
)
def test_other_scans_are_no_ct(
    random: np.random.Generator, parts: list[tuple[float, float, float]]
) -> None:
    assert modality(scan(random, parts), WHOLE) == "other"


def test_padding_is_not_looked_at(random: np.random.Generator) -> None:
    array = scan(random, [(0.3, -1000, 10), (0.7, 20, 50)])
    view = WHOLE.copy()
    view[:8] = False
    array[:8] = -3024
    assert modality(array, WHOLE) == "other"
    assert modality(array, view) == "CT"
    assert modality(array, np.zeros_like(view)) == "other"


@pytest.mark.parametrize(
    ("preset", "modalities", "words"),
    [
        ("abdomen", ("CT", "other"), []),
        ("lung", ("CT", "CT"), []),
        ("oasis", ("CT", "CT"), []),
        ("oasis", ("other", "other"), []),
        ("lung", ("CT", "other"), ["--like lung is for CT in Hounsfield units, and mr.nii.gz is"]),
        (
            "oasis",
            ("CT", "other"),
            ["--like brain is for two scans of one contrast, and only ct"],
        ),
    ],
)
def test_a_preset_for_other_scans_is_flagged(
    preset: str, modalities: tuple[Modality, Modality], words: list[str]
) -> None:
    flags = preset_flags([CT, MR], modalities, preset)
    assert [flag[: len(word)] for flag, word in zip(flags, words, strict=True)] == words
