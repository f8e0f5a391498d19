from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from l2reg.config.build import build
from l2reg.config.presets import load_preset
from l2reg.registration.small_scans import SmallScans, shrink_scans
from l2reg.registration.start import Start
from l2reg.registration.verdict import Judge, Outcome, Verdict

SHAPE = (40, 34, 38)
SPACING_MM = (2.0, 2.5, 3.0)
IDENTITY = torch.eye(3, 4)[None]
JUDGE: Judge = build(load_preset("register", "default"))["judge"]


def body(seed: int = 0) -> torch.Tensor:
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE), 2.5)
    inside = np.zeros(SHAPE)
    inside[5:-5, 4:-4, 5:-5] = 1
    tissue = 0.3 + 0.4 * (noise > 0) + 0.1 * (noise > 0.04)
    return torch.from_numpy(gaussian_filter(inside * tissue, 0.7))[None, None].float()


def small(
    fixed: torch.Tensor, moving: torch.Tensor, seen: torch.Tensor | None = None
) -> SmallScans:
    ones = torch.ones_like(fixed)
    masks = (ones, ones if seen is None else seen)
    return shrink_scans((fixed, moving), masks, IDENTITY, SPACING_MM, 48)


def outcome(disp: torch.Tensor) -> Outcome:
    return Outcome(
        start=Start(IDENTITY),
        total=disp,
        disp=disp,
        working={
            "fixed": torch.ones(1, 1, *SHAPE),
            "moving": torch.ones(1, 1, *SHAPE),
            "overlap": torch.ones(1, 1, *SHAPE),
            "spacing_mm": torch.tensor([SPACING_MM]),
        },
        reach_mm=(24.0, 30.0, 36.0),
    )


def shifted(by: tuple[float, float, float]) -> torch.Tensor:
    return torch.tensor(by).view(1, 3, 1, 1, 1).expand(1, 3, *SHAPE).clone()


def words(verdict: Verdict) -> list[str]:
    return [flag.split(":")[0] for flag in verdict.flags]


def test_a_right_result_has_no_flag_and_its_numbers_are_those_of_the_field() -> None:
    moving = body()
    fixed = torch.roll(moving, (-3, 2, 0), (2, 3, 4))
    verdict = JUDGE(small(fixed, moving), outcome(shifted((3.0, -2.0, 0.0))), same_contrast=True)
    assert verdict.flags == ()
    assert verdict.similarity_before < 0.8
    assert verdict.similarity_after > 0.95
    assert verdict.contrast_after > 0.95
    length = np.linalg.norm(np.array([3, 2, 0]) * SPACING_MM)
    assert verdict.mean_displacement_mm == pytest.approx(length, rel=1e-4)
    assert verdict.max_displacement_mm == pytest.approx(length, rel=1e-4)
    assert 37 * 32 * 38 / np.prod(SHAPE) - 0.02 < verdict.overlap < 1  # of bodies, not volumes
    assert (verdict.folds, verdict.at_limit) == (0, 0)


def test_a_result_that_fits_worse_than_the_start_is_flagged() -> None:
    moving = body()
    verdict = JUDGE(small(moving, moving), outcome(shifted((4.0, 3.0, 2.0))), same_contrast=True)
    assert "worse than the start" in words(verdict)


def test_scans_of_different_bodies_are_flagged() -> None:
    one, other = (body(seed)[:, :, 8:-8, 8:-8, 8:-8] for seed in (0, 1))
    one, other = (torch.nn.functional.interpolate(part, SHAPE) for part in (one, other))
    verdict = JUDGE(small(one, other), outcome(shifted((0.0,) * 3)), same_contrast=False)
    assert words(verdict) == ["not alike"]


@pytest.mark.parametrize("on_black", [True, False])
def test_an_inverted_contrast_is_flagged_where_contrasts_must_be_the_same(on_black: bool) -> None:
    fixed = body()
    inverted = fixed.max() - fixed
    if on_black:
        inverted = inverted * (fixed > 0.2)
    scans, result = small(fixed, inverted), outcome(shifted((0.0,) * 3))
    verdict = JUDGE(scans, result, same_contrast=True)
    assert words(verdict)[0] == "contrasts do not match"
    assert verdict.unsuited
    verdict = JUDGE(scans, result, same_contrast=False)
    assert "contrasts do not match" not in words(verdict)
    assert not verdict.unsuited


def test_a_field_that_matches_intensities_but_not_contrasts_is_flagged() -> None:
    """A method that compares intensities was misled: the similarity tells nothing here."""
    blind = replace(JUDGE, similarity=replace(JUDGE.contrast, radius=9), max_loss=0.05)
    moving = body()
    disp = shifted((0.0,) * 3)
    disp[:, :, ::2] += 0.8  # rough: contrasts are lost, the coarse picture is not
    verdict = blind(small(moving, moving), outcome(disp), same_contrast=True)
    assert verdict.unsuited
    assert any(
        "correlation of the local contrasts fell from 1.00" in flag for flag in verdict.flags
    )
    assert not blind(small(moving, moving), outcome(disp), same_contrast=False).unsuited


def test_a_small_overlap_is_flagged() -> None:
    fixed = body()
    seen = torch.zeros_like(fixed)
    seen[:, :, 10:] = 1
    moved = outcome(shifted((32.0, 0.0, 0.0)))
    verdict = JUDGE(small(fixed, torch.roll(fixed, 32, 2), seen), moved, same_contrast=True)
    assert verdict.overlap < 0.25
    assert "little overlap" in words(verdict)


def test_scans_of_which_nothing_was_compared_are_flagged() -> None:
    moving = body()
    result = replace(outcome(shifted((0.0,) * 3)), compared=False)
    verdict = JUDGE(small(moving, moving), result, same_contrast=True)
    assert words(verdict) == ["nothing compared"]


def test_motion_as_large_as_the_search_reaches_is_flagged() -> None:
    fixed = body()
    disp = shifted((0.0,) * 3)
    disp[:, 1, :10] = 11.5  # 28.75 of 30 mm
    verdict = JUDGE(small(fixed, fixed), outcome(disp), same_contrast=True)
    assert verdict.at_limit == pytest.approx(10 / SHAPE[0])
    assert "hit the limit" in words(verdict)
    disp[:, 1, :10] = 10.5  # 26.25 mm
    assert JUDGE(small(fixed, fixed), outcome(disp), same_contrast=True).at_limit == 0


@pytest.mark.parametrize("name", ["overlap", "fixed", "moving"])
def test_only_voxels_that_both_scans_show_have_a_displacement(name: str) -> None:
    fixed = body()
    disp = shifted((0.0,) * 3)
    disp[:, 0, :10] = 12.0
    result = outcome(disp)
    result.working[name][:, :, :10] = 0  # type: ignore[literal-required]
    verdict = JUDGE(small(fixed, fixed), result, same_contrast=True)
    assert (verdict.max_displacement_mm, verdict.at_limit) == (0, 0)
    result.working[name][:] = 0  # type: ignore[literal-required]
    assert JUDGE(small(fixed, fixed), result, same_contrast=True).mean_displacement_mm == 0


def test_folds_are_flagged() -> None:
    fixed = body()
    disp = shifted((0.0,) * 3)
    disp[0, 0] = -1.5 * torch.arange(SHAPE[0], dtype=torch.float32)[:, None, None]
    verdict = JUDGE(small(fixed, fixed), outcome(disp), same_contrast=True)
    assert verdict.folds == 1
    assert any(flag == "folds: 100.00 % of the voxels" for flag in verdict.flags)


def test_a_verdict_is_one_line() -> None:
    fixed = body()
    verdict = JUDGE(small(fixed, fixed), outcome(shifted((0.0,) * 3)), same_contrast=True)
    verdict = replace(verdict, similarity_before=0.5, folds=0.012)
    assert str(verdict) == (
        "overlap 100 %, similarity 0.50 -> 1.00, displacement 0.0 mm (at most 0.0), folds 1.20 %"
    )
