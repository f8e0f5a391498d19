import pytest
import torch

from l2reg.features.extractor import FeatureExtractor
from l2reg.features.histogram_matching import HistogramMatching
from l2reg.features.local_contrast import LocalContrast
from l2reg.features.mind import Mind

SHAPE = (13, 14, 15)


@pytest.mark.parametrize(
    "features", [Mind(1, 1), LocalContrast(2, 1e-4), HistogramMatching(256, 100_000)]
)
def test_every_extractor_returns_equal_maps_of_equal_scans_on_their_grid(
    features: FeatureExtractor, rng: torch.Generator
) -> None:
    assert isinstance(features, FeatureExtractor)
    scan = torch.rand(2, 1, *SHAPE, generator=rng)
    fixed, moving = features(scan, scan.clone())
    assert fixed.shape == moving.shape
    assert (fixed.shape[0], *fixed.shape[2:]) == (2, *SHAPE)
    torch.testing.assert_close(fixed, moving)
