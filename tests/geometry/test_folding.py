import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from l2reg.geometry import folding
from l2reg.geometry.folding import min_corner_determinant, remove_folds
from l2reg.geometry.jacobian import jacobian_determinant

SHAPE = (14, 12, 16)


def rough(rng: torch.Generator, size: float) -> torch.Tensor:
    return size * (torch.rand(1, 3, *SHAPE, generator=rng) - 0.5)


@pytest.mark.parametrize("slab_values", [1, 3 * 3 * 12 * 16, 2**17])
def test_the_smallest_determinant_is_that_of_a_naive_loop(
    rng: torch.Generator, monkeypatch: pytest.MonkeyPatch, slab_values: int
) -> None:
    monkeypatch.setattr(folding, "_SLAB_VALUES", slab_values)
    disp = rough(rng, 1.5)
    position = disp[0].numpy() + np.mgrid[:14, :12, :16]
    determinants = min_corner_determinant(disp)[0].numpy()
    assert determinants.shape == (13, 11, 15)
    for cell in [(0, 0, 0), (12, 10, 14), (5, 3, 7)]:
        dets = []
        for corner in np.ndindex(2, 2, 2):
            voxel = np.add(cell, corner)
            columns = []
            for axis in range(3):
                low, high = voxel.copy(), voxel.copy()
                low[axis], high[axis] = cell[axis], cell[axis] + 1
                columns.append(position[(slice(None), *high)] - position[(slice(None), *low)])
            dets.append(np.linalg.det(np.stack(columns, axis=1)))
        np.testing.assert_allclose(determinants[cell], min(dets), rtol=1e-4)


def test_an_affine_map_has_one_determinant() -> None:
    scale = torch.tensor([0.1, -0.2, 0.3]).view(1, 3, 1, 1, 1)
    grid = torch.stack(torch.meshgrid(*(torch.arange(n) for n in SHAPE), indexing="ij"))
    expected = torch.full((1, 13, 11, 15), 1.1 * 0.8 * 1.3)
    torch.testing.assert_close(min_corner_determinant(scale * grid), expected, atol=1e-4, rtol=0)


def test_folds_are_gone_afterwards(rng: torch.Generator) -> None:
    disp = rough(rng, 2.5)
    assert float((jacobian_determinant(disp) <= 0).float().mean()) > 0.05
    repaired = remove_folds(disp, min_determinant=0.1)
    assert float(min_corner_determinant(repaired).min()) > 0.1
    assert float(jacobian_determinant(repaired).min()) > 0


def naive_determinants(disp: torch.Tensor) -> np.ndarray:
    """Return the determinants at all corners of all cells, in float64."""
    field, shape = disp[0].double().numpy(), disp.shape[2:]
    dets = []
    for corner in np.ndindex(2, 2, 2):
        columns = []
        for axis in range(3):
            step = np.diff(field, axis=1 + axis)
            for other in {0, 1, 2} - {axis}:
                at = range(corner[other], corner[other] + shape[other] - 1)
                step = np.take(step, at, axis=1 + other)
            step[axis] += 1
            columns.append(step)
        dets.append(np.linalg.det(np.moveaxis(np.stack(columns), (0, 1), (-1, -2))))
    return np.stack(dets)


def noise(seed: int) -> torch.Tensor:
    """Return a field of Gaussian noise, 0.5 to 4 voxels in size and blurred by 0.5 to 3 voxels."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(12, 32, 3))
    sigma, deviation = rng.uniform(0.5, 3), rng.uniform(0.5, 4)
    field = np.stack([gaussian_filter(rng.standard_normal(shape), sigma) for _ in range(3)])
    return torch.from_numpy(field / field.std() * deviation)[None].float()


@pytest.mark.parametrize("seed", range(40))
def test_no_cell_of_any_noise_is_too_small_afterwards(seed: int) -> None:
    repaired = remove_folds(noise(seed), min_determinant=0.15)
    assert naive_determinants(repaired).min() > 0.15


@pytest.mark.parametrize("size", [1e2, 1e6, 1e30])
@pytest.mark.parametrize("shape", [(2, 2, 3), (2, 9, 5), (13, 8, 10)])
@pytest.mark.filterwarnings("ignore:folds are left:RuntimeWarning")
def test_no_finite_field_keeps_its_folds(
    size: float, shape: tuple[int, ...], rng: torch.Generator
) -> None:
    disp = size * torch.randn(1, 3, *shape, generator=rng)
    assert naive_determinants(remove_folds(disp, min_determinant=0.15)).min() > 0.15
    mirrored = -2 * torch.stack(torch.meshgrid(*map(torch.arange, shape), indexing="ij"))[None]
    assert naive_determinants(remove_folds(mirrored.float(), min_determinant=0.15)).min() > 0.15


def test_folds_that_smoothing_leaves_are_told_and_give_way_to_a_translation(
    monkeypatch: pytest.MonkeyPatch, rng: torch.Generator
) -> None:
    monkeypatch.setattr(folding, "_MAX_ITERATIONS", 2)
    folded, smooth = rough(rng, 4.0), rough(rng, 0.3)
    with pytest.warns(RuntimeWarning, match="folds are left after 2 iterations"):
        repaired = remove_folds(torch.cat([folded, smooth]), min_determinant=0.15)
    mean = folded.mean(dim=(2, 3, 4), keepdim=True).expand_as(folded)
    torch.testing.assert_close(repaired[:1], mean)
    assert torch.equal(repaired[1:], smooth)


def test_only_true_neighbours_are_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Working on a box around the folds gives what working on the whole field gives."""
    disp = noise(35)
    boxed = remove_folds(disp, min_determinant=0.15)
    whole = tuple(slice(0, size) for size in disp.shape[2:])
    monkeypatch.setattr(folding, "_bounding_box", lambda *_, **__: whole)
    torch.testing.assert_close(boxed, remove_folds(disp, min_determinant=0.15), atol=1e-5, rtol=0)


def test_what_does_not_fold_is_left_as_it_was(rng: torch.Generator) -> None:
    smooth = rough(rng, 0.3)
    assert torch.equal(remove_folds(smooth, min_determinant=0.1), smooth)


def test_far_from_a_fold_nothing_changes() -> None:
    disp = torch.zeros(1, 3, *SHAPE)
    disp[0, 0, 3, 3, 3] = 1.5
    disp[0, 1, 10:, 8:, 12:] = 0.4
    repaired = remove_folds(disp, min_determinant=0.1)
    assert float(min_corner_determinant(repaired).min()) > 0.1
    assert torch.equal(repaired[..., 8:, :, :], disp[..., 8:, :, :])
    assert not torch.equal(repaired, disp)


def test_a_steep_fold_is_spread_over_little_more_than_it_needs() -> None:
    """A drop by 16 voxels has to spread over 16 / (1 - 0.15), or 19 voxels: from 12 to 31."""
    at = torch.arange(80.0)
    drop = -16 * ((at - 20) / 2).clamp(0, 1) * (1 - ((at - 40) / 25).clamp(0, 1))
    disp = torch.zeros(1, 3, 80, 9, 7)
    disp[0, 0] = drop.view(-1, 1, 1)
    repaired = remove_folds(disp, min_determinant=0.15)
    moved = ((repaired - disp).abs().amax(dim=(0, 1, 3, 4)) > 1e-3).nonzero()
    assert int(moved.min()) > 8
    assert int(moved.max()) < 36
