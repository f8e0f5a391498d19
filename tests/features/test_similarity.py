import numpy as np
import pytest
import torch

from l2reg.features.mind import Mind
from l2reg.features.similarity import feature_correlation, scan_similarity

SHAPE = (9, 7, 8)


def test_the_correlation_is_that_of_all_channels_inside_the_mask(rng: torch.Generator) -> None:
    fixed = torch.rand(1, 3, *SHAPE, generator=rng)
    moving = fixed + torch.rand(1, 3, *SHAPE, generator=rng)
    mask = (torch.rand(1, 1, *SHAPE, generator=rng) > 0.4).float()
    inside = mask.bool().expand(-1, 3, -1, -1, -1).numpy()
    expected = np.corrcoef(fixed.numpy()[inside], moving.numpy()[inside])[0, 1]
    assert feature_correlation(fixed, moving, mask) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("blank", ["mask", "fixed", "moving"])
def test_nothing_to_compare_has_no_similarity(rng: torch.Generator, blank: str) -> None:
    tensors = {name: torch.rand(1, 2, *SHAPE, generator=rng) for name in ("fixed", "moving")}
    tensors["mask"] = torch.ones(1, 1, *SHAPE)
    tensors[blank] = torch.zeros_like(tensors[blank])
    assert feature_correlation(**tensors) == 0.0


def test_contrast_has_no_influence_on_the_similarity_of_self_similarity_descriptors(
    rng: torch.Generator,
) -> None:
    image = torch.rand(1, 1, 14, 12, 13, generator=rng)
    ones = torch.ones_like(image)
    batch = {"fixed": image, "moving": 1 - image, "fixed_mask": ones, "moving_mask": ones}
    assert scan_similarity(batch, Mind(radius=1, dilation=1)) == pytest.approx(1, abs=1e-3)
    batch["moving"] = torch.rand(image.shape, generator=rng)
    assert abs(scan_similarity(batch, Mind(radius=1, dilation=1))) < 0.2


def test_voxels_beyond_a_mask_and_at_its_edge_do_not_count(rng: torch.Generator) -> None:
    image = torch.rand(1, 1, 14, 12, 13, generator=rng)
    ones = torch.ones_like(image)
    inside = torch.zeros_like(image)
    inside[:, :, 6:] = 1
    moving = image.clone()
    moving[:, :, :4] = torch.rand(moving[:, :, :4].shape, generator=rng)
    batch = {"fixed": image, "moving": moving, "fixed_mask": ones, "moving_mask": ones}
    features = Mind(radius=1, dilation=1)
    assert scan_similarity(batch, features) < 0.9
    assert scan_similarity(batch, features, inside) == pytest.approx(1, abs=1e-3)
    batch["moving_mask"] = inside
    assert scan_similarity(batch, features) == pytest.approx(1, abs=1e-3)
