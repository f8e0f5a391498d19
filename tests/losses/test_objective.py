from collections.abc import Callable

import numpy as np
import pytest
import torch
import yaml
from scipy.ndimage import map_coordinates
from torch import nn

from l2reg.batch import resize_batch
from l2reg.config.build import build
from l2reg.config.presets import config_dir, preset_names
from l2reg.losses.dice import Dice
from l2reg.losses.diffusion import Diffusion
from l2reg.losses.mse import MSE
from l2reg.losses.objective import (
    Aligned,
    Objective,
    masked_mean,
    mean_dissimilarity,
    overlap_mask,
)
from l2reg.models.prediction import Prediction

SHAPE = (12, 13, 14)
LOSSES = preset_names("loss")
OF_THE_FIELD = ["smoothness", "inverse_consistency", "gradient_inverse_consistency", "bending",
                "total_variation", "folding"]  # fmt: skip


def full_objective(name: str) -> Objective:
    """Return the objective of a YAML file, every term of a field with weight 1."""
    shared, own = (
        yaml.safe_load((config_dir() / f"{stem}.yaml").read_text())
        for stem in ("loss_terms", f"loss/{name}")
    )
    terms = shared["terms"] | own["terms"]
    terms.pop("segmentation")  # a term of another output than the field: test_segmentation.py
    objective: Objective = build({**shared, "terms": terms, "weights": dict.fromkeys(terms, 1.0)})
    return objective


def batch(pairs: int, rng: torch.Generator) -> dict[str, torch.Tensor]:
    image = torch.rand(pairs, 1, *SHAPE, generator=rng)
    labels = torch.randint(0, 3, (pairs, 1, *SHAPE), generator=rng, dtype=torch.int16)
    points = 2 + 8 * torch.rand(pairs, 6, 3, generator=rng)
    return {
        "fixed": image,
        "moving": image.roll(1, dims=2),
        "fixed_mask": torch.ones_like(image),
        "moving_mask": torch.ones_like(image),
        "fixed_labels": labels,
        "moving_labels": labels.roll(1, dims=2),
        "label_weight": torch.ones(pairs),
        "fixed_points": points,
        "moving_points": points + 1,
        "point_weights": torch.ones(pairs, 6),
        "spacing_mm": torch.tensor([[1.0, 1.5, 2.0]]).expand(pairs, 3),
    }


def still(pairs: int) -> Prediction:
    return Prediction(torch.zeros(pairs, 3, *SHAPE))


@pytest.mark.parametrize("name", LOSSES)
def test_equal_scans_without_deformation_cost_nothing_at_all(
    name: str, rng: torch.Generator
) -> None:
    same = batch(2, rng)
    for kind in ("", "_labels", "_points"):
        same[f"moving{kind}"] = same[f"fixed{kind}"]
    terms = full_objective(name)(still(2), same)
    assert set(terms) == {"similarity", "dice", "keypoints", *OF_THE_FIELD}
    assert all(abs(float(value)) < 1e-6 for value in terms.values())


@pytest.mark.parametrize("name", LOSSES)
def test_different_scans_cost_something_in_every_term_but_those_of_the_field(
    name: str, rng: torch.Generator
) -> None:
    terms = full_objective(name)(still(1), batch(1, rng))
    assert [terms.pop(name) for name in OF_THE_FIELD] == [0] * len(OF_THE_FIELD)  # nothing moves
    assert all(float(value) > 1e-3 for value in terms.values())


@pytest.mark.parametrize("name", LOSSES)
def test_two_ranks_of_one_pair_equal_one_rank_of_two(name: str, rng: torch.Generator) -> None:
    objective, both = full_objective(name), batch(2, rng)
    both["label_weight"] = torch.tensor([1.0, 0.0])  # partial supervision
    both["point_weights"] = torch.tensor([[0.0] * 6, [1.0] * 6])
    together = objective(still(2), both)
    apart = [
        objective(still(1), {key: value[n : n + 1] for key, value in both.items()}) for n in (0, 1)
    ]
    for term, value in together.items():
        torch.testing.assert_close(value, (apart[0][term] + apart[1][term]) / 2)


def test_pairs_with_labels_points_both_and_neither_share_a_batch(rng: torch.Generator) -> None:
    """Each is supervised by what it has, with the same gradient as in a batch of its own."""
    data = batch(4, rng)
    data["label_weight"] = torch.tensor([1.0, 0.0, 1.0, 0.0])
    data["point_weights"] = torch.tensor([[0.0], [1.0], [1.0], [0.0]]).expand(4, 6)
    shared = yaml.safe_load((config_dir() / "loss_terms.yaml").read_text())
    supervision = {name: shared["terms"][name] for name in ("dice", "keypoints")}
    objective = build({**shared, "terms": supervision, "weights": dict.fromkeys(supervision, 1.0)})

    def gradient(which: slice) -> torch.Tensor:
        part = {name: value[which] for name, value in data.items()}
        disp = torch.zeros(len(part["fixed"]), 3, *SHAPE, requires_grad=True)
        terms = objective(Prediction(disp), part)
        torch.stack(list(terms.values())).sum().backward()
        assert disp.grad is not None
        return disp.grad

    together = gradient(slice(0, 4))
    for n in range(4):
        torch.testing.assert_close(4 * together[n : n + 1], gradient(slice(n, n + 1)))
    strength = [float(pair.abs().sum()) for pair in together]
    assert min(strength[:3]) > 0
    assert strength[3] == 0


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("kind", ["flat", "offset", "half", "black"])
def test_hard_input_gives_finite_values_and_gradients(
    name: str, kind: str, rng: torch.Generator
) -> None:
    data = batch(1, rng)
    for side in ("fixed", "moving"):
        image = data[side]
        data[side] = {
            "flat": torch.full_like(image, 0.5),
            "offset": image + 1000,
            "half": image.half(),
            "black": torch.zeros_like(image),
        }[kind]
    disp = (0.1 * torch.randn(1, 3, *SHAPE, generator=rng)).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = full_objective(name)(Prediction(disp), data)
    total = torch.stack(list(terms.values())).sum()
    total.backward()
    assert all(value.dtype == torch.float32 for value in terms.values())
    assert torch.isfinite(total)
    assert disp.grad is not None
    assert torch.isfinite(disp.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_autocast_changes_no_value(name: str, rng: torch.Generator) -> None:
    objective, data = full_objective(name), batch(1, rng)
    exact = objective(still(1), data)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = objective(still(1), data)
    assert all(torch.equal(exact[term], rough[term]) for term in exact)


@pytest.mark.parametrize("name", LOSSES)
def test_changing_the_mask_changes_the_loss_and_an_empty_one_costs_nothing(
    name: str, rng: torch.Generator
) -> None:
    objective, data = full_objective(name), batch(1, rng)
    data["moving"][:, :, :6] = data["fixed"][:, :, :6]  # one half agrees
    whole = objective(still(1), data)["similarity"]
    data["fixed_mask"] = torch.zeros_like(data["fixed"])
    data["fixed_mask"][:, :, :4] = 1
    part = objective(still(1), data)["similarity"]
    assert not torch.isclose(whole, part, rtol=1e-3)
    data["fixed_mask"][:] = 0
    assert objective(still(1), data)["similarity"] == 0


def test_weights_multiply_once_and_a_term_of_weight_0_is_not_computed() -> None:
    class Fails(nn.Module):
        def forward(self, aligned: Aligned) -> torch.Tensor:
            raise AssertionError("computed")

    fixed, moving = torch.zeros(1, 1, *SHAPE), torch.ones(1, 1, *SHAPE)
    masks = {"fixed_mask": torch.ones_like(fixed), "moving_mask": torch.ones_like(fixed)}
    data = {"fixed": fixed, "moving": moving, **masks}
    objective = Objective({"a": MSE(), "b": Fails()}, {"a": 3.0, "b": 0.0})
    assert {name: float(value) for name, value in objective(still(1), data).items()} == {"a": 3.0}


def test_fields_of_coarser_levels_are_compared_on_their_own_grids(rng: torch.Generator) -> None:
    fixed = torch.rand(1, 1, *SHAPE, generator=rng)
    data = batch(1, rng) | {"fixed": fixed, "moving": fixed}
    shapes = ((6, 7, 7), (3, 4, 4))
    moved = tuple(Prediction(torch.full((1, 3, *shape), 0.5)) for shape in shapes)
    objective = Objective({"a": MSE()}, {"a": 3.0}, level_weights=[0.5, 0.25])
    alone = [
        float(
            Objective({"a": MSE()}, {"a": 3.0})(level, resize_batch(data, shape, masks="nearest"))[
                "a"
            ]
        )
        for level, shape in zip(moved, shapes, strict=True)
    ]
    assert min(alone) > 0
    whole = torch.zeros(1, 3, *SHAPE)
    terms = objective(Prediction(whole, levels=moved), data)
    assert terms["a"] < 1e-9
    assert float(terms["levels"]) == pytest.approx(0.5 * alone[0] + 0.25 * alone[1])
    first = objective(Prediction(whole, levels=moved[:1]), data)
    assert float(first["levels"]) == pytest.approx(0.5 * alone[0])
    assert set(objective(Prediction(whole), data)) == {"a"}


def test_a_dice_of_the_finest_field_alone_leaves_the_coarser_ones_out(
    rng: torch.Generator,
) -> None:
    labels = (torch.rand(1, 1, *SHAPE, generator=rng) > 0.5).to(torch.int16)
    data = batch(1, rng) | {"fixed_labels": labels, "moving_labels": labels.flip(2)}
    data["label_weight"] = torch.ones(1)
    coarse = (Prediction(torch.zeros(1, 3, 6, 7, 7)),)
    whole = Prediction(torch.zeros(1, 3, *SHAPE), levels=coarse)
    for deep, more in ((True, {"levels"}), (False, set())):
        dice = Dice(volume_exponent=0.0, deep_supervision=deep)
        terms = Objective({"dice": dice}, {"dice": 1.0}, level_weights=[0.5])(whole, data)
        assert {name for name, term in terms.items() if term > 0} == {"dice"} | more


def test_the_smoothness_of_a_prediction_multiplies_its_smoothness_term(
    rng: torch.Generator,
) -> None:
    data, disp = batch(2, rng), torch.randn(2, 3, *SHAPE, generator=rng)
    objective = Objective({"smoothness": Diffusion(), "a": MSE()}, {"smoothness": 2.0, "a": 1.0})
    plain = [
        objective(Prediction(disp[n : n + 1]), {k: v[n : n + 1] for k, v in data.items()})
        for n in (0, 1)
    ]
    scaled = objective(Prediction(disp, smoothness=torch.tensor([0.0, 3.0])), data)
    torch.testing.assert_close(scaled["smoothness"], 3 * plain[1]["smoothness"] / 2)
    torch.testing.assert_close(scaled["a"], (plain[0]["a"] + plain[1]["a"]) / 2)


def test_a_term_without_weight_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"(?s)terms.*smoothness.*weights.*smooth'"):
        Objective({"smoothness": Diffusion()}, {"smooth": 1.0})
    with pytest.raises(ValueError, match="0 or more"):
        Objective({"smoothness": Diffusion()}, {"smoothness": -1.0})


def test_only_voxels_sampled_inside_the_moving_volume_are_compared(
    aligned: Callable[..., Aligned],
) -> None:
    image = torch.ones(1, 1, *SHAPE)
    disp = torch.zeros(1, 3, *SHAPE)
    disp[:, 1] = 3.0  # the last three planes are sampled outside
    mask = overlap_mask(disp, {"moving": image, "fixed_mask": image, "moving_mask": image})
    assert (mask[:, :, :, :-3] == 1).all()
    assert (mask[:, :, :, -3:] == 0).all()
    assert (aligned(image, image, disp).mask == mask).all()


def test_a_voxel_weighs_as_the_fixed_mask_times_the_moving_mask_where_it_is_sampled(
    rng: torch.Generator,
) -> None:
    fixed_mask = (torch.rand(2, 1, *SHAPE, generator=rng) > 0.3).float()
    moving_mask = (torch.rand(2, 1, 11, 12, 15, generator=rng) > 0.3).float()
    disp = (2 * torch.randn(2, 3, *SHAPE, generator=rng)).requires_grad_()
    batch = {"moving": moving_mask, "fixed_mask": fixed_mask, "moving_mask": moving_mask}
    mask = overlap_mask(disp, batch)
    assert not mask.requires_grad
    at = disp.detach().numpy() + np.mgrid[:12, :13, :14]
    last = np.array([10, 11, 14]).reshape(3, 1, 1, 1)
    for n in (0, 1):
        sampled = map_coordinates(moving_mask[n, 0].numpy(), at[n], order=1, mode="constant")
        inside = ((at[n] >= 0) & (at[n] <= last)).all(axis=0)
        expected = fixed_mask[n, 0].numpy() * sampled * inside
        np.testing.assert_allclose(mask[n, 0].numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_what_the_moving_mask_leaves_out_has_no_say(name: str, rng: torch.Generator) -> None:
    """Motion is known where the mask holds; beyond it, the moving scan is another one."""
    data = batch(1, rng)
    data["moving"] = data["fixed"].clone()
    data["moving"][:, :, 6:] = torch.rand(1, 1, 6, *SHAPE[1:], generator=rng)
    objective = full_objective(name)
    assert objective(still(1), data)["similarity"] > 0.01
    data["moving_mask"][:, :, 2:] = 0
    assert objective(still(1), data)["similarity"] < 1e-3


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("place", ["outside the volume", "outside the mask"])
def test_a_field_that_leads_out_of_the_moving_scan_has_the_worst_value(
    name: str, place: str, rng: torch.Generator
) -> None:
    data = batch(2, rng)
    data["moving"] = (data["fixed"] + data["moving"]) / 2
    data["moving_mask"][:, :, 8:] = 0
    disp = torch.zeros(2, 3, *SHAPE)
    disp[1, 0] = 1000.0
    if place == "outside the mask":
        disp[1, 0] = 10 - torch.arange(12.0).view(12, 1, 1)
    objective = full_objective(name)
    aligned, outside = (
        float(objective(Prediction(disp[n : n + 1]), {k: v[:1] for k, v in data.items()})[
            "similarity"
        ])
        for n in (0, 1)
    )  # fmt: skip
    assert aligned < 0.99
    assert outside == 1


def test_a_field_cannot_profit_from_keeping_a_few_voxels_that_match(rng: torch.Generator) -> None:
    """A tenth of the fixed mask is enough; of less, the missing part counts with 1."""
    fixed_mask = torch.ones(1, 1, 10, 10, 20)
    values = 0.2 * torch.ones_like(fixed_mask)
    for n_planes, expected in ((2, 0.2 * 2 / 2.0), (1, 0.2 * 0.5 + 0.5), (0, 1.0)):
        mask = torch.zeros_like(fixed_mask)
        mask[..., :n_planes] = 1
        assert float(mean_dissimilarity(values, mask, fixed_mask)) == pytest.approx(expected)
    assert float(mean_dissimilarity(values, 0 * mask, 0 * fixed_mask)) == 0


def test_the_masked_mean_is_the_mean_inside_the_mask() -> None:
    values = torch.arange(24.0).view(2, 2, 1, 2, 3)
    mask = torch.tensor([[1.0, 0, 0], [0, 0, 1]]).view(1, 1, 1, 2, 3).repeat(2, 1, 1, 1, 1)
    torch.testing.assert_close(masked_mean(values, mask), torch.tensor([5.5, 17.5]))
    assert (masked_mean(values, torch.zeros_like(mask)) == 0).all()


def test_a_scheduled_weight_follows_the_step_and_is_the_last_one_in_evaluation(
    rng: torch.Generator,
) -> None:
    nodes = {"similarity": 1.0, "smoothness": {"from": 0.0, "to": 2.0, "steps": 4}}
    scheduled = Objective({"similarity": MSE(), "smoothness": Diffusion()}, nodes)
    plain = Objective({"similarity": MSE(), "smoothness": Diffusion()}, dict.fromkeys(nodes, 1.0))
    prediction = Prediction(torch.rand(2, 3, *SHAPE, generator=rng))
    pairs = batch(2, rng)
    whole = plain(prediction, pairs)
    for step, weight in ((0, 0.0), (1, 0.5), (4, 2.0), (9, 2.0)):
        scheduled.set_step(step)
        terms = scheduled(prediction, pairs)
        assert terms["similarity"] == whole["similarity"]
        if weight:
            torch.testing.assert_close(terms["smoothness"], weight * whole["smoothness"])
        else:
            assert "smoothness" not in terms
        assert scheduled.scheduled_weights() == {"smoothness": weight}
    scheduled.set_step(1)
    assert scheduled.eval()(prediction, pairs)["smoothness"] > terms["smoothness"] * 0.99


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_of_two_channels_is_the_mean_of_both(name: str, rng: torch.Generator) -> None:
    objective = full_objective(name)
    first, second = batch(2, rng), batch(2, rng)
    second |= {key: first[key] for key in first if key not in ("fixed", "moving")}
    both = {**first, **{s: torch.cat([first[s], second[s]], 1) for s in ("fixed", "moving")}}
    found, *alone = (objective(still(2), each)["similarity"] for each in (both, first, second))
    assert alone[0] != alone[1]
    torch.testing.assert_close(found, (alone[0] + alone[1]) / 2)
