import pytest
import torch

from l2reg.features.extractor import FeatureExtractor, comparable_features
from l2reg.features.histogram_matching import HistogramMatching
from l2reg.features.intensity_and_gradient import IntensityAndGradient
from l2reg.features.local_contrast import LocalContrast
from l2reg.features.mind import Mind

SHAPE = (13, 14, 15)
MATCHING = HistogramMatching(256, 100_000, 0.0)
EDGES = IntensityAndGradient(MATCHING, 0.0, 0.16, 1.0)


@pytest.mark.parametrize("features", [Mind(1, 1), LocalContrast(2, 1e-4), MATCHING, EDGES])
def test_every_extractor_returns_equal_maps_of_equal_scans_on_their_grid(
    features: FeatureExtractor, rng: torch.Generator
) -> None:
    assert isinstance(features, FeatureExtractor)
    scan = torch.rand(2, 1, *SHAPE, generator=rng)
    fixed, moving = features(scan, scan.clone())
    assert fixed.shape == moving.shape
    assert (fixed.shape[0], *fixed.shape[2:]) == (2, *SHAPE)
    torch.testing.assert_close(fixed, moving)


@pytest.mark.parametrize(
    "features",
    [Mind(1, 1), Mind(2, 1), LocalContrast(1, 1e-4), LocalContrast(3, 1e-4),
     MATCHING],
)  # fmt: skip
def test_features_depend_on_voxels_within_their_reach_alone(
    features: FeatureExtractor, rng: torch.Generator
) -> None:
    """A changed voxel changes the features around it, to exactly that distance."""
    scan = torch.rand(1, 1, *SHAPE, generator=rng)
    changed = scan.clone()
    changed[0, 0, 6, 7, 8] += 0.5
    before, after = features(scan, scan)[0], features(changed, changed)[0]
    at = ((after - before).abs().amax(dim=1)[0] > 1e-3).nonzero() - torch.tensor([6, 7, 8])
    assert int(at.abs().max()) == features.reach


def test_features_are_compared_within_the_overlap_and_away_from_its_edge(
    rng: torch.Generator,
) -> None:
    """What lies outside the overlap changes nothing where the masks of the features hold."""
    scan = torch.rand(1, 1, *SHAPE, generator=rng)
    ones, overlap = torch.ones_like(scan), torch.ones_like(scan)
    overlap[:, :, :4] = 0
    other = torch.where(overlap > 0, scan, torch.rand(1, 1, *SHAPE, generator=rng))
    batch = {"fixed": scan, "moving": other, "fixed_mask": ones, "moving_mask": ones}
    for features in (Mind(1, 1), LocalContrast(2, 1e-4), MATCHING, EDGES):
        (fixed, moving), masks = comparable_features({**batch, "overlap": overlap}, features)
        assert torch.equal(masks[0], masks[1])
        first = 4 + features.reach + 1
        assert masks[0][0, 0, :, 0, 0].tolist() == [0.0] * first + [1.0] * (13 - first)
        torch.testing.assert_close(fixed * masks[0], moving * masks[0])
        assert comparable_features(batch, features)[1] == (ones, ones)
