from dataclasses import replace

import numpy as np
import pytest
import torch

from l2reg.config.build import build
from l2reg.config.presets import load_preset
from l2reg.data.intensity import Percentiles
from l2reg.features.local_contrast import LocalContrast
from l2reg.features.mind import Mind
from l2reg.models.zero import Zero
from l2reg.optimisation.convex import Convex
from l2reg.registration import solve
from l2reg.registration.channels import Channel
from l2reg.registration.solve import compare_channels, select_method, suit_resolution
from l2reg.registration.start import Start
from l2reg.registration.verdict import Judge, Outcome, Verdict

IDENTITY = Start(torch.eye(3, 4)[None])
CPU = torch.device("cpu")


@pytest.mark.parametrize("refine", [False, True])
def test_a_given_field_is_not_searched_again(refine: bool) -> None:
    field = replace(IDENTITY, disp=torch.zeros(1, 3, 8, 9, 10))
    from_map, from_field = (select_method("lung", CPU, s, refine=refine) for s in (IDENTITY, field))
    assert isinstance(from_map.model, Convex)
    assert isinstance(from_field.model, Zero)
    assert (from_map.refinement is not None) == (from_field.refinement is not None) == refine


def test_channels_are_compared_by_features_that_suit_them_after_a_given_field_too() -> None:
    field = replace(IDENTITY, disp=torch.zeros(1, 3, 8, 9, 10))
    views = np.ones((8, 9, 10), dtype=bool)
    channel = Channel(np.zeros((8, 9, 10), "f4"), views, "other", Percentiles(low=0.5, high=99.5))
    pairs = [(channel, channel), (replace(channel, kind="CT"), channel)]
    method = compare_channels(select_method("lung", CPU, field, refine=True), pairs)
    assert method.refinement is not None
    first, same, other = method.refinement.features.extractors  # type: ignore[attr-defined]
    assert first is same
    assert isinstance(first, LocalContrast)
    assert isinstance(other, Mind)
    disp = method.model({"fixed": torch.zeros(1, 3, 8, 9, 10)}).disp
    assert torch.equal(disp, torch.zeros(1, 3, 8, 9, 10))
    plain = select_method("lung", CPU, IDENTITY, refine=False)
    assert compare_channels(plain, []) is plain


@pytest.mark.parametrize(
    ("preset", "spacing_mm", "n_maps"),
    [("oasis", (1.0, 3.0, 1.0), 2), ("oasis", (1.0, 3.5, 1.0), 1), ("lung", (4.0, 4.0, 4.0), 2)],
)
def test_gradients_between_large_voxels_are_not_compared(
    preset: str, spacing_mm: tuple[float, ...], n_maps: int
) -> None:
    """Of a brain's two maps one is left; the maps that are left do not change."""
    plain = select_method(preset, CPU, IDENTITY, refine=True).refinement
    suited = suit_resolution(select_method(preset, CPU, IDENTITY, refine=True), spacing_mm)
    assert plain is not None
    assert suited.refinement is not None
    pair = torch.rand(2, 1, 1, 8, 9, 10, generator=torch.Generator().manual_seed(0))
    (expected, _), (maps, _) = plain.features(*pair), suited.refinement.features(*pair)
    kept = maps.flatten(2).std(dim=2)[0] > 0
    torch.testing.assert_close(maps[:, kept], expected[:, kept])
    assert int(kept.sum()) == min(n_maps, expected.shape[1])


def verdict(similarity: float, contrast: float) -> Verdict:
    return Verdict(1.0, 0.5, similarity, 0.5, contrast, 1.0, 2.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("preset", "own", "other", "chosen"),
    [
        ("oasis", (0.87, 0.72), (0.91, 0.70), "abdomen"),
        ("oasis", (0.87, 0.72), (0.86, 0.75), "oasis"),
        ("oasis", (0.87, 0.85), (0.91, 0.90), "oasis"),
        ("abdomen", (0.87, 0.10), (0.91, 0.90), "abdomen alone"),
    ],
)
def test_a_doubtful_result_is_compared_with_that_for_any_contrast(
    preset: str,
    own: tuple[float, float],
    other: tuple[float, float],
    chosen: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verdicts = [verdict(*own), verdict(*other)]
    pair, outcome = object.__new__(solve.StartedPair), object.__new__(Outcome)
    object.__setattr__(pair, "small", None)
    monkeypatch.setattr(solve, "_solve", lambda *_: outcome)
    monkeypatch.setattr(Judge, "__call__", lambda *_, **__: verdicts.pop(0))
    method = select_method(preset, CPU, IDENTITY, refine=True)
    judge: Judge = build(load_preset("register", "default"))["judge"]
    found = solve.register_suitably(pair, method, preset, judge)[1]
    assert len(verdicts) == (1 if chosen == "abdomen alone" or own[1] > 0.8 else 0)
    if chosen == "abdomen":
        assert found.similarity_after == other[0]
        assert "--like abdomen is used instead" in found.flags[0]
    else:
        assert found.similarity_after == own[0]
        assert found.flags == ()


@pytest.mark.parametrize(("refine", "least"), [(True, 7), (False, 11)])
def test_an_overlap_of_which_the_margins_leave_nothing_is_not_compared(
    refine: bool, least: int
) -> None:
    """Self-similarity looks two or four voxels far, and a derivative one more, from both sides."""
    method = select_method("abdomen", CPU, IDENTITY, refine=refine)
    for planes in (least - 1, least):
        overlap = torch.zeros(1, 1, 20, 16, 18)
        overlap[..., 3 : 3 + planes] = 1
        assert solve._compares(method.refinement or method.model, overlap) == (planes == least)
    assert solve._compares(Zero("half"), torch.zeros(1, 1, 20, 16, 18))
