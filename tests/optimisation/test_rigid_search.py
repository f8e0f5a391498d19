from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform, gaussian_filter
from scipy.spatial.transform import Rotation

from l2reg.features.mind import Mind
from l2reg.optimisation.rigid_search import RigidSearch
from l2reg.shapes import Image, Maps, Mask


@dataclass(frozen=True)
class Intensities:
    """Feature extractor that returns the images."""

    reach = 0

    def __call__(self, fixed: Image, moving: Image) -> tuple[Maps, Maps]:
        return fixed, moving


SEARCH = RigidSearch(
    features=Mind(radius=1, dilation=1), max_size=24, angles_deg=(-20.0, 0.0, 20.0), min_overlap=0.4
)


def blobs(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(shape)
    smooth = gaussian_filter(noise, 3)
    return gaussian_filter((smooth > 0.02).astype(float) + 0.3 * smooth / smooth.std(), 1)


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))[None, None].float()


def ones_like(images: tuple[Image, Image]) -> tuple[Mask, Mask]:
    return torch.ones_like(images[0]), torch.ones_like(images[1])


def test_the_correlation_of_the_best_translation_is_the_largest_of_a_loop_over_all() -> None:
    random = np.random.default_rng(1)
    fixed, moving = random.random((9, 7, 5)), random.random((5, 7, 3))
    moving[:, 1:] = 2 * fixed[3:8, :6, 1:4] - 1  # position q is position q - (3, -1, 1)
    images = (tensor(fixed), tensor(moving))
    search = RigidSearch(features=Intensities(), max_size=9, angles_deg=[0.0], min_overlap=0.15)
    (match,) = search(images, ones_like(images), torch.eye(3, 4)[None], (1.0, 1.0, 1.0))
    inner = [np.s_[0:size] for size in fixed.shape]
    assert fixed[tuple(inner)].shape == fixed.shape
    scores = {}
    for shift in np.ndindex(17, 17, 17):
        d = np.array(shift) - 8
        low, high = np.maximum(d, 0), np.minimum(np.array(moving.shape) + d, fixed.shape)
        if (high <= low).any():
            continue
        one = fixed[tuple(map(slice, low, high))]
        other = moving[tuple(map(slice, low - d, high - d))]
        if one.size >= 0.15 * min(fixed.size, moving.size):
            scores[tuple(d)] = np.corrcoef(one.ravel(), other.ravel())[0, 1]
    best = max(scores, key=scores.__getitem__)
    np.testing.assert_allclose(match.matrix[0, :, 3], -np.array(best), atol=1e-4)
    assert match.correlation == pytest.approx(scores[best], abs=1e-4)
    assert best == (3, -1, 1)


@pytest.mark.parametrize("angles", [(0, 0, 0), (20, 0, -20)])
def test_a_scan_is_found_wherever_it_lies_and_however_it_is_turned(
    angles: tuple[float, float, float],
) -> None:
    """The moving scan has a grid of its own, and hangs 200 mm away from the fixed one."""
    spacing, moving_spacing = np.array([3.0, 2.0, 2.5]), np.array([2.5, 3.0, 2.0])
    shape, moving_shape = (30, 46, 36), (40, 34, 50)
    fixed = blobs(shape)
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    centre, moving_centre = (np.array(shape) - 1) / 2, (np.array(moving_shape) - 1) / 2
    true = np.diag(1 / moving_spacing) @ turn @ np.diag(spacing)  # fixed to moving voxels
    inverse = np.linalg.inv(true)
    moved = moving_centre + np.array([2, -3, 4])
    moving = affine_transform(fixed, inverse, centre - inverse @ moved)
    headers = np.c_[np.diag(spacing / moving_spacing), [80.0, -60, 90]]
    images = (tensor(fixed), tensor(1.0 - moving))
    match, *others = SEARCH(images, ones_like(images), tensor(headers)[0], tuple(spacing))
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(shape) - 1)
    expected = (corners - centre) @ true.T + moved
    actual = corners @ match.matrix[0, :, :3].numpy().T + match.matrix[0, :, 3].numpy()
    error_mm = np.linalg.norm((actual - expected) * moving_spacing, axis=1)
    assert error_mm.max() < 6  # the search's grid has steps of 4.3 mm
    assert len(others) == 26
    assert all(match.correlation >= other.correlation for other in others)


def test_only_overlaps_that_are_large_enough_count() -> None:
    fixed = blobs((30, 28, 32))
    images = (tensor(fixed), tensor(np.roll(fixed, 16, axis=0)))  # half of it fits perfectly
    identity = torch.eye(3, 4)[None]
    for min_overlap, found in ((0.4, 16.0), (0.7, 0.0)):
        search = replace(SEARCH, angles_deg=[0.0], min_overlap=min_overlap)
        (match,) = search(images, ones_like(images), identity, (1.0, 1.0, 1.0))
        assert (abs(float(match.matrix[0, 0, 3])) > 10) == (found > 10)


def test_voxels_without_data_have_no_influence() -> None:
    fixed = blobs((30, 28, 32))
    images = (tensor(fixed), tensor(fixed).clone())
    masks = ones_like(images)
    for image, mask, part in zip(images, masks, (np.s_[..., :8], np.s_[..., -6:]), strict=True):
        image[part], mask[part] = 5.0, 0.0
    search = replace(SEARCH, angles_deg=[0.0])
    (match,) = search(images, masks, torch.eye(3, 4)[None], (1.0, 1.0, 1.0))
    np.testing.assert_allclose(match.matrix[0], np.eye(3, 4), atol=1e-4)


def test_blank_scans_match_nowhere() -> None:
    images = (torch.zeros(1, 1, 12, 14, 16), torch.zeros(1, 1, 10, 12, 14))
    matches = SEARCH(images, ones_like(images), torch.eye(3, 4)[None], (1.0, 1.0, 1.0))
    assert all(abs(match.correlation) < 0.1 for match in matches)


@pytest.mark.parametrize("wrong", [{"max_size": 1}, {"min_overlap": 0.0}, {"min_overlap": 1.5}])
def test_a_search_that_cannot_work_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="max_size must be 2 or more and min_overlap"):
        replace(SEARCH, **wrong)
