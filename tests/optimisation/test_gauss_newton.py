import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from l2reg.geometry.compose import compose
from l2reg.geometry.filters import erode, smooth
from l2reg.geometry.jacobian import jacobian_determinant
from l2reg.geometry.resize import resample, resize_field
from l2reg.geometry.warp import voxel_coords, warp
from l2reg.losses.diffusion import diffusion_energy
from l2reg.optimisation import gauss_newton as module
from l2reg.optimisation.gauss_newton import (
    Regularisation,
    StepSettings,
    _add_diffusion_gradient,
    _bounding_box,
    _diffusion_weights,
    _interpolations,
    _normal_equations,
    _slabs,
    _solve_step,
    control_shape,
    gauss_newton,
)

SHAPE = (20, 22, 25)
WHOLE = tuple(slice(0, n) for n in SHAPE)
ONE = torch.tensor([[1.0, 1.0, 1.0]])
LOOSE = Regularisation(elastic=0.0, viscous=0.01, smoothing_passes=1)
STEPS = StepSettings(
    control_spacing=3, max_steps=12, step_tolerance=0.0, cg_iterations=20, cg_tolerance=0.03
)


def texture(
    rng: torch.Generator, shape: tuple[int, int, int], channels: int, every: int, pairs: int = 1
) -> torch.Tensor:
    """Return values around 0 that change over ``every`` voxels."""
    coarse = [max(2, -(-size // every)) for size in shape]
    values = torch.randn(pairs, channels, *coarse, generator=rng, dtype=torch.float64)
    return resample(values, shape)


def known(
    rng: torch.Generator, *, most: float, pairs: int = 1
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return a fixed and a moving image of float32, and the wave of a field between them."""
    moving = texture(rng, SHAPE, channels=2, every=3, pairs=pairs)
    turns = voxel_coords(moving) / moving.new_tensor(SHAPE).view(3, 1, 1, 1)
    disp = most * torch.sin(2 * torch.pi * turns.roll(1, dims=1))
    return warp(moving, disp).float(), moving.float(), disp.float()


def registered(
    fixed: torch.Tensor,
    moving: torch.Tensor,
    stiffness: Regularisation = LOOSE,
    steps: StepSettings = STEPS,
    disp: torch.Tensor | None = None,
) -> torch.Tensor:
    weight = torch.ones_like(fixed[:, :1])
    disp = torch.zeros_like(weight).expand(-1, 3, -1, -1, -1) if disp is None else disp
    spacing_mm = ONE.expand(len(fixed), 3).to(fixed.dtype)
    found = gauss_newton((fixed, moving), whole(weight), disp, spacing_mm, stiffness, steps)
    return resize_field(found, SHAPE)


def whole(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return masks of a pair whose moving scan has data everywhere."""
    return weight, torch.ones_like(weight)


def inside(values: torch.Tensor, margin: int = 4) -> torch.Tensor:
    return values[..., margin:-margin, margin:-margin, margin:-margin]


def hats(shape: tuple[int, ...], control: tuple[int, ...]) -> np.ndarray:
    """Return the dense matrix of linear interpolation from control points to voxels."""
    per_axis = []
    for size, n in zip(shape, control, strict=True):
        at = np.arange(size)[:, None] * (n - 1) / (size - 1)
        per_axis.append(np.maximum(0, 1 - np.abs(at - np.arange(n))))
    i, j, k = per_axis
    return np.kron(np.kron(i, j), k)


# ------------------------------------------------------------------------- control grid


@pytest.mark.parametrize(
    ("spacing", "expected"), [(1, (6, 7, 1)), (2, (3, 4, 1)), (4, (2, 2, 1)), (100, (2, 2, 1))]
)
def test_every_so_many_voxels_there_is_a_control_point_and_two_at_least(
    spacing: int, expected: tuple[int, int, int]
) -> None:
    assert control_shape((6, 7, 1), spacing) == expected


# ----------------------------------------------------------------------------- data term


def along(shape: tuple[int, int, int], control: tuple[int, int, int]) -> list[torch.Tensor]:
    return _interpolations(shape, control, (slice(None),) * 5, torch.empty(0, dtype=torch.float64))


def test_only_the_box_around_the_fixed_mask_is_computed_and_changes_nothing(
    rng: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed, moving = (smooth(torch.rand(1, 2, *SHAPE, generator=rng), 2) for _ in "ab")
    masks = torch.zeros(2, 1, 1, *SHAPE)
    masks[0][..., 4:11, 5:, 9:20], masks[1][..., 3:, :, :] = 1, 1
    box = _bounding_box(masks[0])
    assert box[2:] == (slice(3, 12), slice(4, 22), slice(8, 21))
    assert _bounding_box(0 * masks[0])[2:] == (slice(0, 2),) * 3
    arguments = ((fixed, moving), (masks[0], masks[1]), torch.zeros(1, 3, *SHAPE), ONE)
    steps = replace(STEPS, max_steps=2)
    inside_box = gauss_newton(*arguments, LOOSE, steps)
    monkeypatch.setattr(module, "_bounding_box", lambda mask: (slice(None),) * 2 + WHOLE)
    torch.testing.assert_close(inside_box, gauss_newton(*arguments, LOOSE, steps))


def test_dense_matrices_agree_with_the_normal_equations(rng: torch.Generator) -> None:
    shape, control = (5, 6, 7), (3, 2, 4)
    fixed, moving = (torch.rand(1, 2, *shape, generator=rng, dtype=torch.float64) for _ in "ab")
    weight = torch.rand(1, 1, *shape, generator=rng, dtype=torch.float64)
    disp = torch.randn(1, 3, *shape, generator=rng, dtype=torch.float64)

    blocks, gradient = _normal_equations(fixed, moving, weight, disp, along(shape, control))

    there = np.stack([
        map_coordinates(moving[0, c].numpy(), np.indices(shape) + disp[0].numpy(), order=1,
                        mode="nearest")
        for c in range(2)
    ])  # fmt: skip
    here = fixed[0].numpy()
    slopes = np.stack(np.gradient((here + there) / 2, axis=(1, 2, 3))).reshape(3, 2, -1)
    spread = hats(shape, control)
    n_voxels, n_control = spread.shape
    root = np.sqrt(weight.numpy().ravel() / n_voxels * n_control)
    jacobian = np.concatenate([  # rows: channels and voxels; columns: components, control points
        np.hstack([(root * slopes[axis, c])[:, None] * spread for axis in range(3)])
        for c in range(2)
    ])  # fmt: skip
    misfit = np.concatenate([root * (there - here)[c].ravel() for c in range(2)])
    whole = (jacobian.T @ jacobian).reshape(3, n_control, 3, n_control)
    lumped = whole.sum(axis=3)  # off-diagonal blocks on the diagonal
    upper = [lumped[a, :, b] for a, b in [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]]
    np.testing.assert_allclose(blocks[0].numpy().reshape(6, -1), np.stack(upper), atol=1e-12)
    np.testing.assert_allclose(
        gradient[0].numpy().ravel(), jacobian.T @ misfit, rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("shrink", [0.0, 0.2])
def test_the_gradient_is_that_of_the_data_term_for_a_composed_step(
    shrink: float, rng: torch.Generator
) -> None:
    # Where images are linear, and equal but for an offset, all derivatives are exact.
    shape, control = (7, 8, 9), (3, 4, 3)
    positions = voxel_coords(torch.empty(1, 1, *shape, dtype=torch.float64))
    slope = torch.randn(2, 3, 1, 1, 1, generator=rng, dtype=torch.float64)
    moving = (slope * positions).sum(dim=1)[None]
    disp = shrink * (positions.mean(dim=(2, 3, 4), keepdim=True) - positions)
    fixed = warp(moving, disp) + torch.tensor([0.3, -0.2]).view(1, 2, 1, 1, 1)
    weight = torch.zeros(1, 1, *shape, dtype=torch.float64)
    inside(weight, 1).uniform_(generator=rng)  # a lookup on the border has no derivative

    _, gradient = _normal_equations(fixed, moving, weight, disp, along(shape, control))

    step = torch.zeros(1, 3, *control, dtype=torch.float64, requires_grad=True)
    warped = warp(moving, compose(disp, resample(step, shape)))
    energy = 0.5 * (weight * (warped - fixed).square()).sum() / weight.numel()
    (expected,) = torch.autograd.grad(energy, step)
    torch.testing.assert_close(gradient, expected * step[0, 0].numel())


@pytest.mark.parametrize("n_planes", [16, 17, 21])
def test_slabs_leave_no_seam(
    n_planes: int, rng: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape, control = (n_planes, 6, 7), (5, 3, 4)
    fixed, moving = (torch.rand(2, 2, *shape, generator=rng, dtype=torch.float64) for _ in "ab")
    weight = torch.rand(2, 1, *shape, generator=rng, dtype=torch.float64)
    disp = 2 * torch.randn(2, 3, *shape, generator=rng, dtype=torch.float64)
    assert list(_slabs(fixed)) == [(0, n_planes)]
    whole = _normal_equations(fixed, moving, weight, disp, along(shape, control))

    monkeypatch.setattr(module, "_SLAB_VALUES", 1)

    cuts = list(_slabs(fixed))
    assert len(cuts) == -(-n_planes // 8)
    assert [at for cut in cuts for at in range(*cut)] == list(range(n_planes))
    for cut, uncut in zip(
        _normal_equations(fixed, moving, weight, disp, along(shape, control)), whole, strict=True
    ):
        torch.testing.assert_close(cut, uncut)


# ---------------------------------------------------------------------------- smoothness


def diffusion_gradient(field: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return _add_diffusion_gradient(torch.zeros_like(field), field, weights)


def test_the_smoothness_term_is_the_gradient_of_the_diffusion_energy(rng: torch.Generator) -> None:
    # A cube, as only there means along all axes have the same number of terms.
    n, ratio = 5, torch.tensor([2.0, 3.0, 4.0]).view(3, 1, 1, 1)
    spacing_mm = torch.tensor([[1.0, 1.5, 3.0], [2.0, 1.0, 1.0]])
    field = torch.randn(2, 3, n, n, n, generator=rng, requires_grad=True)

    ours = diffusion_gradient(field.detach(), _diffusion_weights(spacing_mm, ratio))

    control_mm = spacing_mm * ratio.flatten()  # ``field`` counts voxels of the fine grid
    energy = diffusion_energy(field / ratio, control_mm).sum()
    (gradient,) = torch.autograd.grad(energy, field)
    n_terms = 3 * 3 * n * n * (n - 1)  # axes times terms of each mean
    torch.testing.assert_close(ours, gradient * n_terms / 2)


def test_on_any_grid_the_smoothness_term_is_the_gradient_of_half_the_summed_squares(
    rng: torch.Generator,
) -> None:
    ratio = torch.tensor([2.0, 1.0, 1.5], dtype=torch.float64).view(3, 1, 1, 1)
    spacing_mm = torch.tensor([[1.0, 1.5, 3.0]], dtype=torch.float64)
    field = torch.randn(1, 3, 4, 5, 6, generator=rng, dtype=torch.float64, requires_grad=True)
    mm = field * spacing_mm.view(1, 3, 1, 1, 1)
    steps_mm = (spacing_mm[0] * ratio.flatten()).tolist()
    energy = sum(
        (mm.diff(dim=2 + axis) / step_mm).square().sum() / 2
        for axis, step_mm in enumerate(steps_mm)
    )
    (expected,) = torch.autograd.grad(energy, field)
    torch.testing.assert_close(
        diffusion_gradient(field.detach(), _diffusion_weights(spacing_mm, ratio)), expected
    )


def dense(operator: Callable[[torch.Tensor], torch.Tensor], *shape: int) -> torch.Tensor:
    """Return the matrix of a linear operator on fields of one pair."""
    size = int(np.prod(shape))
    basis = torch.eye(size, dtype=torch.float64).view(size, *shape)
    return torch.stack([operator(one[None]).flatten() for one in basis], dim=1)


def bending() -> torch.Tensor:
    spacing_mm = torch.tensor([[1.0, 1.5, 3.0]], dtype=torch.float64)
    return _diffusion_weights(spacing_mm, torch.full((3, 1, 1, 1), 2.0, dtype=torch.float64))


def test_the_smoothness_matrix_is_symmetric_semidefinite_and_blind_to_translations_only() -> None:
    matrix = dense(lambda field: diffusion_gradient(field, bending()), 3, 2, 3, 4)
    torch.testing.assert_close(matrix, matrix.T)
    eigenvalues = torch.linalg.eigvalsh(matrix)
    assert eigenvalues.min() > -1e-12
    assert int((eigenvalues < 1e-9).sum()) == 3
    translation = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64).view(1, 3, 1, 1, 1)
    assert diffusion_gradient(translation.expand(1, 3, 2, 3, 4), bending()).abs().max() == 0


def test_an_axis_of_one_control_point_bends_nowhere(rng: torch.Generator) -> None:
    flat = torch.randn(1, 3, 1, 3, 4, generator=rng, dtype=torch.float64)
    thick = flat.expand(1, 3, 2, 3, 4)
    torch.testing.assert_close(
        diffusion_gradient(flat, bending()), diffusion_gradient(thick, bending())[:, :, :1]
    )


@pytest.mark.parametrize("times", [0, 1, 2])
def test_smoothing_is_self_adjoint_and_keeps_sum_and_translations(times: int) -> None:
    matrix = dense(lambda field: smooth(field, times), 3, 2, 3, 4)
    torch.testing.assert_close(matrix, matrix.T)
    ones = torch.ones(len(matrix), dtype=torch.float64)
    torch.testing.assert_close(matrix @ ones, ones)
    torch.testing.assert_close(matrix.T @ ones, ones)


# -------------------------------------------------------------------------------- solver


def budget(cg_iterations: int, cg_tolerance: float) -> StepSettings:
    return StepSettings(1, 1, 0.0, cg_iterations, cg_tolerance)


@pytest.mark.parametrize("smoothing", [0, 2])
def test_a_step_solves_the_equation_of_the_module(smoothing: int, rng: torch.Generator) -> None:
    shape = (2, 3, 4)
    n = int(np.prod(shape))
    root = torch.randn(3, 3, *shape, generator=rng, dtype=torch.float64)
    matrices = torch.einsum("abijk,cbijk->acijk", root, root)
    upper = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    blocks = torch.stack([matrices[a, b] for a, b in upper])[None]
    target = torch.randn(1, 3, *shape, generator=rng, dtype=torch.float64)

    regularisation = Regularisation(0.3, 0.2, smoothing)
    step = _solve_step(blocks, target, bending(), regularisation, budget(500, 1e-10))

    data = torch.zeros(3, n, 3, n, dtype=torch.float64)
    for a in range(3):
        for b in range(3):
            data[a, :, b] = torch.diag(matrices[a, b].flatten())
    box = dense(lambda field: smooth(field, smoothing), 3, *shape)
    stiff = dense(lambda field: diffusion_gradient(field, bending()), 3, *shape)
    whole = box @ data.view(3 * n, 3 * n) @ box + 0.5 * stiff
    torch.testing.assert_close(step.flatten(), torch.linalg.solve(whole, target.flatten()))


# -------------------------------------------------------------------------- registration


@pytest.mark.parametrize("smoothing", [0, 1, 2])
def test_a_known_deformation_of_two_voxels_and_a_half_is_found(
    smoothing: int, rng: torch.Generator
) -> None:
    fixed, moving, disp = known(rng, most=2.5)
    found = registered(fixed, moving, Regularisation(0.0, 0.01, smoothing))
    missing = inside((found - disp).norm(dim=1)).mean()
    assert inside(disp.norm(dim=1)).mean() > 1
    assert missing < 0.3


def test_the_axes_are_treated_alike(rng: torch.Generator) -> None:
    fixed, moving, _ = known(rng, most=2.0)
    order = (2, 0, 1)
    stiffness = Regularisation(elastic=0.02, viscous=0.05, smoothing_passes=1)
    spacing_mm = torch.tensor([[1.0, 1.5, 2.0]])
    weight = torch.rand(1, 1, *SHAPE, generator=rng)
    start = torch.zeros(1, 3, *SHAPE)

    def turned(volume: torch.Tensor) -> torch.Tensor:
        return volume.permute(0, 1, *[2 + axis for axis in order])

    steps = StepSettings(
        control_spacing=3, max_steps=3, step_tolerance=0.0, cg_iterations=20, cg_tolerance=0.03
    )
    disp = gauss_newton((fixed, moving), whole(weight), start, spacing_mm, stiffness, steps)
    other = gauss_newton(
        (turned(fixed), turned(moving)),
        whole(turned(weight)), turned(start),
        spacing_mm[:, list(order)], stiffness, steps,
    )  # fmt: skip
    torch.testing.assert_close(other, turned(disp)[:, list(order)], atol=1e-3, rtol=0)


@pytest.mark.parametrize("control", [1, 2, 5, 100])
def test_any_distance_of_control_points_works(control: int, rng: torch.Generator) -> None:
    fixed, moving, _ = known(rng, most=1.0)
    steps = StepSettings(
        control, max_steps=6, step_tolerance=0.0, cg_iterations=10, cg_tolerance=0.03
    )
    found = registered(fixed, moving, Regularisation(0.0, 0.02, 1), steps)
    assert found.shape == (1, 3, *SHAPE)
    before, after = (
        inside(image - fixed).square().mean() for image in (moving, warp(moving, found))
    )
    assert after < before


def test_where_nothing_is_compared_nothing_moves(rng: torch.Generator) -> None:
    fixed, moving, disp = known(rng, most=2.0)
    steps = StepSettings(
        control_spacing=1, max_steps=3, step_tolerance=0.0, cg_iterations=10, cg_tolerance=0.03
    )
    weight = torch.zeros(1, 1, *SHAPE)
    left = gauss_newton((fixed, moving), whole(weight), disp, ONE, LOOSE, steps)
    torch.testing.assert_close(left, disp)


def test_without_data_elasticity_flattens_the_field(rng: torch.Generator) -> None:
    fixed, moving, disp = known(rng, most=2.0)
    weight = torch.zeros(1, 1, *SHAPE)
    stiffness = Regularisation(elastic=1.0, viscous=0.0, smoothing_passes=0)
    flat = gauss_newton((fixed, moving), whole(weight), disp, ONE, stiffness, STEPS)
    assert diffusion_energy(flat, ONE) < 0.05 * diffusion_energy(disp, ONE)


@pytest.mark.parametrize(
    "stiffness",
    [
        Regularisation(100.0, 0.0, 1),
        pytest.param(Regularisation(0.0, 1000.0, 1), marks=pytest.mark.slow),
    ],
)
def test_a_stiff_field_finds_translations_only(
    stiffness: Regularisation, rng: torch.Generator
) -> None:
    steps = StepSettings(
        control_spacing=3, max_steps=12, step_tolerance=0.0, cg_iterations=60, cg_tolerance=0.03
    )
    _, moving, wave = known(rng, most=2.5)
    shift = torch.tensor([1.5, -1.0, 0.5]).view(1, 3, 1, 1, 1).expand(1, 3, *SHAPE)
    shifted = registered(warp(moving, shift), moving, stiffness, steps)
    torch.testing.assert_close(shifted, shift, atol=0.02, rtol=0)
    waved = registered(warp(moving, wave), moving, stiffness, steps)
    assert waved.std(dim=(2, 3, 4)).max() < 0.05 * wave.std(dim=(2, 3, 4)).min()


def test_the_spacing_decides_which_axis_is_stiff(rng: torch.Generator) -> None:
    fixed, moving, _ = known(rng, most=2.0)
    weight, start = torch.ones(1, 1, *SHAPE), torch.zeros(1, 3, *SHAPE)
    stiffness = Regularisation(elastic=0.05, viscous=0.0, smoothing_passes=0)
    isotropic, thick = (
        gauss_newton(
            (fixed, moving),
            whole(weight),
            start,
            torch.tensor([mm]),
            stiffness,
            STEPS,
        )
        for mm in ([1.0, 1.0, 1.0], [1.0, 1.0, 10.0])
    )
    # Component i of a millimetre may change freely from one thick slice to the next.
    rough = [disp[:, 0].diff(dim=3).square().mean() for disp in (isotropic, thick)]
    assert rough[1] > rough[0]


def test_steps_stop_when_nothing_moves(
    rng: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed, moving, _ = known(rng, most=1.0)
    calls = []

    def counted(*args: Any) -> Any:
        calls.append(args)
        return _normal_equations(*args)

    monkeypatch.setattr(module, "_normal_equations", counted)
    registered(
        fixed,
        moving,
        steps=StepSettings(
            control_spacing=3,
            max_steps=30,
            step_tolerance=0.05,
            cg_iterations=10,
            cg_tolerance=0.03,
        ),
    )
    assert 1 < len(calls) < 15
    calls.clear()
    registered(
        moving,
        moving,
        steps=StepSettings(
            control_spacing=3,
            max_steps=30,
            step_tolerance=0.05,
            cg_iterations=10,
            cg_tolerance=0.03,
        ),
    )
    assert len(calls) == 1
    calls.clear()
    registered(
        fixed,
        moving,
        steps=StepSettings(
            control_spacing=3, max_steps=5, step_tolerance=0.0, cg_iterations=10, cg_tolerance=0.03
        ),
    )
    assert len(calls) == 5


@pytest.mark.parametrize("control", [2, 4])
def test_scans_that_have_nothing_in_common_are_not_folded(
    control: int, rng: torch.Generator
) -> None:
    fixed, moving = (texture(rng, SHAPE, channels=2, every=3).float() for _ in "ab")
    steps = StepSettings(
        control, max_steps=15, step_tolerance=0.0, cg_iterations=20, cg_tolerance=0.03
    )
    found = registered(
        fixed, moving, Regularisation(elastic=0.0, viscous=0.5, smoothing_passes=2), steps
    )
    assert found.abs().max() > 4
    assert jacobian_determinant(found).min() > 0


@pytest.mark.parametrize("smoothing", [0, 2])
def test_no_step_folds_however_strong_the_pull(
    smoothing: int, rng: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    determinants = []

    def watched(outer: torch.Tensor, inner: torch.Tensor) -> torch.Tensor:
        determinants.append(jacobian_determinant(inner).min())
        return compose(outer, inner)

    monkeypatch.setattr(module, "compose", watched)
    fixed, moving = (5 * texture(rng, SHAPE, channels=2, every=3).float() for _ in "ab")
    registered(fixed, moving, Regularisation(elastic=0.0, viscous=0.05, smoothing_passes=smoothing))
    assert len(determinants) == STEPS.max_steps
    assert min(determinants) > 0


def test_no_step_is_longer_than_a_share_of_the_control_distance(rng: torch.Generator) -> None:
    fixed, moving, _ = known(rng, most=2.5)
    for control in (1, 3):
        steps = StepSettings(
            control, max_steps=1, step_tolerance=0.0, cg_iterations=50, cg_tolerance=0.03
        )
        found = registered(100 * fixed, 100 * moving, Regularisation(0.0, 1e-6, 0), steps)
        points = control_shape(SHAPE, control)
        apart = max((n - 1) / (m - 1) for n, m in zip(SHAPE, points, strict=True))
        assert 0.3 * apart < found.abs().max() <= module.LARGEST_STEP * apart * 1.0001


def test_two_pairs_at_once_equal_one_after_the_other(rng: torch.Generator) -> None:
    # A batch stops as one: only with a fixed number of iterations is there nothing to share.
    fixed, moving, _ = known(rng, most=2.0, pairs=2)
    weight = torch.rand(2, 1, *SHAPE, generator=rng)
    start = texture(rng, SHAPE, channels=3, every=9, pairs=2).float()
    spacing_mm = torch.tensor([[1.0, 1.5, 2.0], [2.0, 1.0, 1.0]])
    stiffness = Regularisation(elastic=0.05, viscous=0.05, smoothing_passes=1)
    steps = StepSettings(
        control_spacing=3, max_steps=4, step_tolerance=0.0, cg_iterations=8, cg_tolerance=0.0
    )

    def of(*pairs: int) -> torch.Tensor:
        part = list(pairs)
        return gauss_newton(
            (fixed[part], moving[part]), whole(weight[part]),
            start[part], spacing_mm[part],
            stiffness, steps,
        )  # fmt: skip

    torch.testing.assert_close(of(0, 1), torch.cat([of(0), of(1)]), atol=1e-3, rtol=0)


def test_the_start_is_left_as_it_was(rng: torch.Generator) -> None:
    fixed, moving, start = known(rng, most=2.0)
    inputs = (fixed, moving, start)
    copies = [tensor.clone() for tensor in inputs]
    registered(fixed, moving, steps=StepSettings(1, 2, 0.0, 5, 0.03), disp=start)
    assert all(torch.equal(a, b) for a, b in zip(inputs, copies, strict=True))


# ------------------------------------------------------------------------- field of view


def cropped(moving: torch.Tensor, planes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a scan that lacks its last planes along i, and the mask of those it has."""
    mask = torch.ones_like(moving[:, :1])
    mask[:, :, -planes:] = 0
    return moving * mask, mask


@pytest.mark.parametrize("by", ["mask", "volume"])
def test_a_run_from_the_truth_stays_there_where_the_moving_scan_ends_earlier(
    by: str, rng: torch.Generator
) -> None:
    """The fixed scan shows five planes that the moving one lacks: by its mask, or as it ends."""
    moving = texture(rng, SHAPE, channels=1, every=3).float()
    truth = torch.zeros(1, 3, *SHAPE)
    truth[:, 0] = 5.0
    fixed = torch.cat([moving[:, :, 5:], texture(rng, SHAPE, channels=1, every=3)[:, :, :5]], dim=2)
    mask = torch.ones_like(moving)
    if by == "mask":
        fixed, truth = moving, torch.zeros(1, 3, *SHAPE)
        moving, mask = cropped(moving, 5)
    settings = StepSettings(3, 12, 0.0, 20, 0.03)
    masks = (torch.ones_like(mask), erode(mask, 1))
    found = gauss_newton((fixed.float(), moving), masks, truth, ONE, LOOSE, settings)
    error = (resize_field(found, SHAPE) - truth).abs()
    assert error[:, :, :-8].max() < 1e-3
    assert error.max() < 0.05


def test_the_number_of_steps_does_not_depend_on_masked_surroundings(rng: torch.Generator) -> None:
    fixed, moving, _ = known(rng, most=2.0)

    def counted(mask: torch.Tensor, images: tuple[torch.Tensor, torch.Tensor]) -> int:
        n = []
        for most in range(1, 13):
            settings = StepSettings(3, most, 0.1, 20, 0.03)
            zero = torch.zeros(1, 3, *mask.shape[2:])
            field = gauss_newton(images, whole(mask), zero, ONE, LOOSE, settings)
            n.append(field)
        return sum(not torch.equal(a, b) for a, b in itertools.pairwise(n))

    pad = (9,) * 6  # three control spacings, so that control points fall on the same voxels
    alone = counted(torch.ones_like(fixed[:, :1]), (fixed, moving))
    around = tuple(
        torch.nn.functional.pad(image, pad, mode="replicate") for image in (fixed, moving)
    )
    mask = torch.nn.functional.pad(torch.ones_like(fixed[:, :1]), pad)
    steps = counted(mask, around)
    assert abs(steps - alone) <= 1
