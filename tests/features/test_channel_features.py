import torch

from l2reg.features.channel_features import ChannelFeatures
from l2reg.features.extractor import FeatureExtractor
from l2reg.features.local_contrast import LocalContrast
from l2reg.features.mind import Mind


def test_every_channel_has_the_features_of_its_own_extractor(rng: torch.Generator) -> None:
    fixed, moving = torch.rand(2, 1, 2, 9, 11, 10, generator=rng)
    mind, contrast = Mind(1, 1), LocalContrast(2, 1e-4)
    both = ChannelFeatures([mind, contrast])
    assert isinstance(both, FeatureExtractor)
    assert both.reach == max(mind.reach, contrast.reach)
    expected = [mind(fixed[:, :1], moving[:, :1]), contrast(fixed[:, 1:], moving[:, 1:])]
    for side, maps in enumerate(both(fixed, moving)):
        assert torch.equal(maps, torch.cat([pair[side] for pair in expected], dim=1))
