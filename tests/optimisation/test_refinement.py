from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import pytest
import torch

from l2reg.features.channel_features import ChannelFeatures
from l2reg.features.extractor import FeatureExtractor
from l2reg.features.histogram_matching import HistogramMatching
from l2reg.features.local_contrast import LocalContrast
from l2reg.features.local_normalisation import LocalNormalisation
from l2reg.features.mind import Mind
from l2reg.geometry.compose import compose
from l2reg.geometry.folding import min_corner_determinant
from l2reg.geometry.resize import resample, resize_field, resize_image
from l2reg.geometry.warp import voxel_coords, warp
from l2reg.inference.prepare import task_refinement
from l2reg.optimisation import refinement as module
from l2reg.optimisation.correspondences import KeypointMatcher
from l2reg.optimisation.gauss_newton import StepSettings, gauss_newton
from l2reg.optimisation.point_term import PointTerm
from l2reg.optimisation.refinement import Refinement

SHAPE = (29, 34, 39)
SMALL = (15, 17, 20)
FINE = [(1, 3, 6)]
COARSE_TO_FINE = [(4, 2, 8), (2, 2, 8), (1, 3, 6)]


def refiner(
    features: FeatureExtractor | None = None, levels: Any = COARSE_TO_FINE, **changes: Any
) -> Refinement:
    settings: dict[str, Any] = {
        "grid": "half", "coarse_features": None, "normalisation": None, "from_level": 1,
        "elastic": 0.0, "viscous": 0.05, "cross_modality": 1.0, "smoothing_passes": 1,
        "step_tolerance": 0.01, "cg_iterations": 15, "cg_tolerance": 0.03, "label_weight": 0.0,
        "points": points(0.0), "symmetric": False, "diffeomorphic": True, "min_determinant": 0.15,
    }  # fmt: skip
    features = features or LocalContrast(3, 1e-4)
    return Refinement(features=features, levels=levels, **{**settings, **changes})


def points(weight: float) -> PointTerm:
    matcher = KeypointMatcher(
        features=Mind(1, 1), min_distance=3, max_points=200, search_radius=3, patch_radius=2,
        consistency_tolerance=1.0,
    )  # fmt: skip
    return PointTerm(matcher=matcher, weight=weight, cauchy_scale=1.0)


def pair(
    rng: torch.Generator, disp: torch.Tensor, *, every: Sequence[int] = (3, 8)
) -> dict[str, torch.Tensor]:
    """Return a pair that ``disp`` registers: a texture of a coarse and a fine scale."""
    shape = tuple(disp.shape[2:])
    moving = torch.zeros(len(disp), 1, *shape)
    for voxels in every:
        coarse = [max(2, size // voxels) for size in shape]
        moving += resample(torch.rand(len(disp), 1, *coarse, generator=rng), shape)
    moving = 0.1 + moving / 2
    return {
        "fixed": warp(moving, disp),
        "moving": moving,
        "fixed_mask": torch.ones_like(moving),
        "moving_mask": torch.ones_like(moving),
        "spacing_mm": torch.tensor([[1.5, 1.0, 2.0]]).expand(len(disp), 3),
    }


def shift(shape: Sequence[int], *vector: float) -> torch.Tensor:
    return torch.tensor(vector).view(1, 3, 1, 1, 1).expand(1, 3, *shape)


def wave(shape: Sequence[int], most: float) -> torch.Tensor:
    turns = voxel_coords(torch.empty(1, 1, *shape)) / torch.tensor(shape).view(3, 1, 1, 1)
    return most * torch.sin(2 * torch.pi * turns.roll(1, dims=1))


def error(found: torch.Tensor, disp: torch.Tensor, margin: int = 3) -> float:
    """Return the mean distance inside, in voxels of ``disp``."""
    i, j, k = disp.shape[2:]
    found = resize_field(found, (i, j, k))
    inner = (..., *[slice(margin, size - margin) for size in disp.shape[2:]])
    return float((found - disp)[inner].norm(dim=1).mean())


@pytest.mark.parametrize(
    "axis", [0, *(pytest.param(axis, marks=pytest.mark.slow) for axis in (1, 2))]
)
def test_a_large_translation_is_found_from_coarse_to_fine_and_only_so(
    axis: int, rng: torch.Generator
) -> None:
    vector = [0.5, -0.5, 0.5]
    vector[axis] = 8.0
    disp = shift(SHAPE, *vector)
    batch = pair(rng, disp)
    batch["fixed_mask"] = torch.zeros_like(batch["fixed"])
    batch["fixed_mask"][..., 9:-9, 9:-9, 9:-9] = 1  # what is seen in both scans
    zero = torch.zeros_like(disp)
    assert error(refiner()(batch, zero), disp, margin=9) < 0.5
    assert error(refiner(levels=[(1, 3, 30)])(batch, zero), disp, margin=9) > 3


@pytest.mark.parametrize(
    ("features", "viscous"),
    [
        (Mind(1, 2), 0.05),
        (LocalContrast(2, 1e-4), 0.05),
        (HistogramMatching(256, 100_000, 0.0), 0.005),
    ],
)
def test_every_kind_of_features_finds_a_deformation(
    features: FeatureExtractor, viscous: float, rng: torch.Generator
) -> None:
    disp = wave(SHAPE, 1.5)
    batch = pair(rng, disp)
    found = refiner(features, viscous=viscous)(batch, torch.zeros_like(disp))
    assert error(torch.zeros_like(disp), disp) > 1.5
    assert error(found, disp) < 0.3


def test_normalised_features_find_a_deformation_whatever_lies_beyond_the_masks(
    rng: torch.Generator,
) -> None:
    disp = wave(SHAPE, 1.5)
    batch = pair(rng, disp)
    mask, near = torch.zeros(2, *batch["fixed"].shape)
    mask[:, :, 3:-3, 3:-3, 3:-3] = near[:, :, 2:-2, 2:-2, 2:-2] = 1  # derivatives need a voxel more
    batch["fixed_mask"] = mask
    refine = refiner(
        HistogramMatching(256, 100_000, 1.0), normalisation=LocalNormalisation(4, 1e-3), levels=FINE
    )
    zero = torch.zeros_like(disp)
    found = refine(batch, zero)
    assert error(found, disp, margin=5) < 0.5 * error(zero, disp, margin=5)
    beyond = {**batch, "fixed": torch.where(near > 0, batch["fixed"], 0.9)}
    torch.testing.assert_close(refine(beyond, zero), found)


def test_a_coarse_level_alone_finds_a_smooth_field(rng: torch.Generator) -> None:
    disp = wave(SHAPE, 2.0)
    found = refiner(LocalContrast(2, 1e-4), levels=[(2, 2, 12)])(
        pair(rng, disp), torch.zeros_like(disp)
    )
    assert error(found, disp) < 0.7 < 0.3 * error(torch.zeros_like(disp), disp)


def test_a_good_field_stays_good(rng: torch.Generator) -> None:
    disp = wave(SHAPE, 2.0)
    batch = pair(rng, disp)
    assert error(refiner()(batch, disp), disp) < 0.25
    assert error(refiner(levels=FINE)(batch, disp), disp) < 0.25


def test_a_poor_field_becomes_better(rng: torch.Generator) -> None:
    disp = wave(SHAPE, 2.0)
    poor = disp + 0.7 * wave(SHAPE, 1.0).flip(1, 2)
    found = refiner(levels=FINE)(pair(rng, disp), poor)
    assert error(found, disp) < 0.5 * error(poor, disp)


def test_no_level_leaves_the_field_as_it_is(rng: torch.Generator) -> None:
    disp = wave(SMALL, 2.0)
    torch.testing.assert_close(refiner(levels=[])(pair(rng, disp), disp), disp)


def test_batch_and_field_are_not_changed_in_place(rng: torch.Generator) -> None:
    disp = wave(SMALL, 1.0)
    batch = pair(rng, disp)
    copies = {name: tensor.clone() for name, tensor in batch.items()}
    start = torch.zeros_like(disp)
    refiner()(batch, start)
    assert start.abs().max() == 0
    assert batch.keys() == copies.keys()
    assert all(torch.equal(batch[name], copy) for name, copy in copies.items())


def test_no_pair_leaves_a_trace_for_the_next(rng: torch.Generator) -> None:
    first, second = (pair(rng, wave(SMALL, most)) for most in (2.0, -1.0))
    start = torch.zeros(1, 3, *SMALL)
    used = refiner(Mind(1, 1))
    used(first, start)
    assert torch.equal(used(second, start), refiner(Mind(1, 1))(second, start))


def test_nothing_but_the_pair_and_its_masks_is_read(rng: torch.Generator) -> None:
    batch = pair(rng, wave(SMALL, 1.0))
    assert set(batch) == {"fixed", "moving", "fixed_mask", "moving_mask", "spacing_mm"}
    assert not refiner()(batch, torch.zeros(1, 3, *SMALL, requires_grad=True)).requires_grad


@pytest.mark.parametrize("shape", [(13, 17, 9), (8, 21, 16), (5, 24, 7)])
@pytest.mark.parametrize("features", [Mind(1, 2), LocalContrast(2, 1e-4)])
def test_any_size_works(
    shape: tuple[int, int, int], features: FeatureExtractor, rng: torch.Generator
) -> None:
    batch = pair(rng, torch.zeros(1, 3, *shape))
    found = refiner(features, levels=[(3, 2, 3), (1, 2, 3)])(batch, wave(shape, 0.3))
    assert error(found, torch.zeros(1, 3, *shape), margin=2) < 0.3


def test_what_lies_outside_the_mask_has_no_say(rng: torch.Generator) -> None:
    disp = wave(SHAPE, 0.8)
    batch = pair(rng, disp)
    batch["fixed_mask"] = torch.zeros_like(batch["fixed"])
    batch["fixed_mask"][..., :16] = 1
    other = {name: tensor.clone() for name, tensor in batch.items()}
    for name, tensor in pair(rng, disp).items():
        if name in ("fixed", "moving"):
            other[name][..., 24:] = tensor[..., 24:]  # beyond cubes, slopes and displacements
    refine = refiner(LocalContrast(2, 1e-4), levels=FINE)
    start = torch.zeros_like(disp)
    assert torch.equal(refine(batch, start), refine(other, start))
    whole = {"fixed_mask": torch.ones_like(batch["fixed"])}
    assert not torch.allclose(refine(batch | whole, start), refine(other | whole, start), atol=0.1)


def test_every_level_spans_the_whole_volume_in_millimetres(
    rng: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Any, ...]] = []

    def watched(*args: Any) -> torch.Tensor:
        seen.append(args)
        return gauss_newton(*args)

    monkeypatch.setattr(module, "gauss_newton", watched)
    shape = (33, 17, 9)
    batch = pair(rng, torch.zeros(1, 3, *shape))
    levels = [(4, 2, 3), (2, 3, 2), (1, 4, 1)]
    refiner(levels=levels, elastic=0.1)(batch, torch.zeros(1, 3, *shape))

    grids = [tuple(weight.shape[2:]) for _, (weight, _), *_ in seen]
    assert grids == [(8, 8, 8), (16, 8, 8), shape]  # eight voxels at least, if there are so many
    edge_mm = batch["spacing_mm"] * (torch.tensor(shape) - 1)
    for (features, (weight, _), _, spacing_mm, stiffness, steps, matches), level in zip(
        seen, levels, strict=True
    ):
        assert matches is None
        grid = weight.shape[2:]
        assert [v.shape[2:] for v in features] == [grid] * 2
        torch.testing.assert_close(spacing_mm * (torch.tensor(grid) - 1), edge_mm)
        assert (stiffness.elastic, stiffness.viscous, stiffness.smoothing_passes) == (0.1, 0.05, 1)
        assert steps == StepSettings(
            control_spacing=level[1],
            max_steps=level[2],
            step_tolerance=0.01,
            cg_iterations=15,
            cg_tolerance=0.03,
        )


def test_the_field_comes_back_on_the_control_points(rng: torch.Generator) -> None:
    disp = wave(SMALL, 1.0)
    found = refiner(levels=[(1, 2, 3)])(pair(rng, disp), torch.zeros_like(disp))
    assert found.shape[2:] == (8, 9, 10)


def test_a_field_that_folds_is_repaired_unless_told_not_to(rng: torch.Generator) -> None:
    batch = pair(rng, torch.zeros(1, 3, *SMALL))
    folded = 6 * (torch.rand(1, 3, *SMALL, generator=rng) - 0.5)
    left = refiner(levels=[], diffeomorphic=False)(batch, folded)
    assert torch.equal(left, folded)
    assert float(min_corner_determinant(refiner(levels=[])(batch, folded)).min()) > 0


@pytest.mark.parametrize("level", [(2, 4), (2, 4, 5, 6), (0, 4, 5), (2, 0, 5), (2, 4, 0)])
def test_rows_that_are_no_levels_are_refused_by_name(level: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"rows of factor, control spacing, max steps; got \("
    ) as failure:
        refiner(levels=[(1, 2, 3), level])
    assert str(failure.value).endswith(str(level))


def test_scans_of_two_modalities_are_refined_by_a_stiffer_field(rng: torch.Generator) -> None:
    disp = torch.cat([wave(SMALL, 1.5), wave(SMALL, 1.0)])
    batch, zero = pair(rng, disp), torch.zeros_like(disp)
    batch["cross_modality"] = torch.tensor([0.0, 1.0])
    each: dict[str, Any] = {"levels": FINE, "elastic": 0.02, "step_tolerance": 0.0}
    refined = refiner(**each, cross_modality=4.0)(batch, zero)
    soft = refiner(**each)(batch, zero)
    stiff = refiner(**{**each, "elastic": 0.08, "viscous": 0.2})(batch, zero)
    assert (soft - stiff)[1].abs().max() > 0.05
    torch.testing.assert_close(refined[:1], soft[:1], atol=5e-3, rtol=0)
    torch.testing.assert_close(refined[1:], stiff[1:], atol=5e-3, rtol=0)


def test_a_factor_of_stiffness_that_is_not_above_0_is_refused() -> None:
    with pytest.raises(ValueError, match=r"cross_modality must be above 0, got 0\.0"):
        refiner(cross_modality=0.0)


@pytest.mark.parametrize(("elastic", "viscous"), [(0.0, 0.0), (-0.1, 1.0), (1.0, -0.1)])
def test_a_field_that_nothing_keeps_smooth_is_refused(elastic: float, viscous: float) -> None:
    with pytest.raises(ValueError, match=f"elastic and viscous.*got {elastic}, {viscous}"):
        refiner(elastic=elastic, viscous=viscous)


def test_keypoints_pull_the_last_level_where_the_images_alone_do_not_get_there(
    rng: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def watched(*args: Any) -> torch.Tensor:
        seen.append(args[-1])
        return gauss_newton(*args)

    monkeypatch.setattr(module, "gauss_newton", watched)
    disp = wave(SHAPE, 2.0)
    batch, zero = pair(rng, disp), torch.zeros_like(disp)
    slow: dict[str, Any] = {"levels": [(4, 2, 1), (1, 2, 4)], "viscous": 10.0}
    alone = error(refiner(**slow)(batch, zero), disp)
    pulled = error(refiner(points=points(1.0), **slow)(batch, zero), disp)
    assert pulled < 0.7 * alone
    assert [matches is None for matches in seen] == [True, True, True, False]
    assert len(seen[-1].fixed_points) > 20


def test_the_costs_of_channels_are_averaged(rng: torch.Generator) -> None:
    disp = wave(SHAPE, 1.0)
    batch = pair(rng, disp)
    twice = {**batch, "fixed": batch["fixed"].repeat(1, 2, 1, 1, 1),
             "moving": batch["moving"].repeat(1, 2, 1, 1, 1)}  # fmt: skip
    features, start = LocalContrast(3, 1e-4), torch.zeros_like(disp)
    one = refiner(features, [(2, 2, 2)])(batch, start)
    both = refiner(ChannelFeatures([features, features]), [(2, 2, 2)])(twice, start)
    assert one.abs().max() > 0.05
    torch.testing.assert_close(both, one, atol=1e-4, rtol=1e-3)


def test_labels_bring_together_what_images_do_not_show(rng: torch.Generator) -> None:
    disp = wave(SHAPE, 2.0)
    batch = pair(rng, disp)
    labels = (batch["moving"] > batch["moving"].median()).to(torch.int16) * 3
    batch["moving_labels"], batch["fixed_labels"] = labels, (warp(labels.float(), disp) > 1.5) * 3
    batch["fixed"] = batch["moving"] = torch.zeros_like(batch["fixed"])
    start = torch.zeros_like(disp)
    assert error(refiner(label_weight=1.0)(batch, start), disp) < 0.5 * error(start, disp)
    assert error(refiner(label_weight=0.0)(batch, start), disp) == error(start, disp)
    batch["moving_labels"] = torch.zeros_like(labels)  # none in common
    assert error(refiner(label_weight=1.0)(batch, start), disp) == error(start, disp)


@pytest.mark.slow
def test_a_symmetric_field_is_undone_by_that_of_the_swapped_pair(rng: torch.Generator) -> None:
    disp = wave(SHAPE, 1.5)
    batch = pair(rng, disp)
    batch["moving_mask"] = batch["fixed_mask"]
    swapped = {**batch, "fixed": batch["moving"], "moving": batch["fixed"]}
    start = torch.zeros_like(disp)

    def left_over(refine: Refinement) -> float:
        there, back = (resize_field(refine(x, start), SHAPE) for x in (batch, swapped))
        return error(compose(there, back), start)

    symmetric = refiner(symmetric=True)
    assert left_over(symmetric) < 0.5 * left_over(refiner())
    assert error(symmetric(batch, start), disp) < 0.3


def test_a_negative_weight_of_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="label_weight must be 0 or more, got -1"):
        refiner(label_weight=-1.0)


def test_coarse_features_are_those_of_all_levels_but_the_finest(rng: torch.Generator) -> None:
    class Counting:
        reach = 3

        def __init__(self) -> None:
            self.shapes: list[tuple[int, ...]] = []

        def __call__(
            self, fixed: torch.Tensor, moving: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            self.shapes.append(tuple(fixed.shape[2:]))
            return LocalContrast(3, 1e-4)(fixed, moving)

    still = torch.zeros(1, 3, *SMALL)
    batch = pair(rng, still)
    coarse, fine = Counting(), Counting()
    refiner(fine, [(2, 2, 1), (1, 3, 1)], coarse_features=coarse)(batch, still)
    assert (coarse.shapes, fine.shapes) == ([(8, 8, 10)], [SMALL])


@pytest.mark.parametrize(("share", "first"), [(1.0, 2), (0.5, 2), (0.0, 1)])
def test_auto_leaves_out_the_levels_that_a_good_start_needs_no_more(
    share: float, first: int, rng: torch.Generator
) -> None:
    disp, levels = wave(SMALL, 1.5), [(2, 2, 1), (1, 3, 3)]
    batch, start = pair(rng, disp), share * disp
    found = refiner(levels=levels, from_level="auto")(batch, start)
    assert torch.equal(found, refiner(levels=levels[first - 1 :])(batch, start))
    assert torch.equal(found, refiner(levels=levels, from_level=first)(batch, start))


class Blank:
    """Features that show nothing."""

    reach = 0

    def __call__(
        self, fixed: torch.Tensor, moving: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros_like(fixed), torch.zeros_like(moving)


def test_auto_compares_by_the_features_of_the_last_level(rng: torch.Generator) -> None:
    disp, levels = wave(SMALL, 1.5), [(2, 2, 1), (1, 3, 3)]
    batch = pair(rng, disp)
    refine = refiner(levels=levels, from_level="auto", coarse_features=Blank())
    assert torch.equal(refine(batch, disp), replace(refine, from_level=2)(batch, disp))


def test_a_symmetric_refinement_keeps_a_good_start(rng: torch.Generator) -> None:
    disp = wave(SMALL, 0.8)
    found = refiner(levels=[], symmetric=True, diffeomorphic=False)(pair(rng, disp), disp)
    assert error(found, disp) < 0.1


@pytest.mark.parametrize("first", [0, 4])
def test_a_first_level_that_is_not_there_is_refused(first: Any) -> None:
    with pytest.raises(ValueError, match=f"auto or a number from 1 to 3, got {first}"):
        refiner(from_level=first)


@pytest.mark.slow
def test_a_good_start_on_a_phantom_is_kept_from_level_2(phantoms: dict[str, Path]) -> None:
    """The coarsest level loses detail of the true field that the finer ones do not find again."""
    shape = (30, 36, 42)
    batch, disp = phantom_brains(phantoms["oasis"] / "task_03", shape)
    head = batch["fixed"] > 0.05

    def brain_error(start: torch.Tensor, first: int | Literal["auto"]) -> float:
        refine = replace(task_refinement("oasis"), from_level=first)
        distance = (resize_field(refine(batch, start), shape) - disp).norm(dim=1, keepdim=True)
        return float(distance[head].mean())

    assert brain_error(disp, 2) < brain_error(disp, 1)
    assert brain_error(disp, "auto") < 0.9 * brain_error(disp, 1)
    assert brain_error(0 * disp, "auto") == brain_error(0 * disp, 1)


def phantom_brains(
    folder: Path, shape: tuple[int, int, int]
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return the pair of phantom brains on a grid of ``shape``, and its true field."""
    scans = [nib.load(folder / f"img{n}.nii.gz") for n in ("0438", "0439")]
    fixed, moving = (
        resize_image(torch.from_numpy(scan.get_fdata(dtype=np.float32))[None, None], shape)
        for scan in scans
    )
    disp = torch.from_numpy(np.load(folder / "truth/disp_0438_0439.npz")["arr_0"][None])
    mask, spacing = torch.ones_like(fixed), torch.tensor([scans[0].header.get_zooms()])
    batch = {
        "fixed": fixed / moving.max(),
        "moving": moving / moving.max(),
        "fixed_mask": mask,
        "moving_mask": mask,
        "spacing_mm": spacing * torch.tensor(scans[0].shape) / torch.tensor(shape),
    }
    return batch, resize_field(disp.float(), shape)
