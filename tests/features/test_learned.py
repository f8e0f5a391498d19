import pytest
import torch

from l2reg.features.learned import Joint, Learned
from l2reg.features.mind import Mind
from l2reg.models.descriptors import DescriptorNetwork

SHAPE = (17, 14, 20)


@pytest.fixture
def learned() -> Learned:
    torch.manual_seed(0)
    return Learned(DescriptorNetwork([4, 6, 6], channels=5, levels=1).eval())


def test_each_scan_has_the_descriptors_of_the_network_without_gradients(
    learned: Learned, rng: torch.Generator
) -> None:
    scans = torch.rand(2, 1, 1, *SHAPE, generator=rng)
    for scan, maps in zip(scans, learned(*scans), strict=True):
        torch.testing.assert_close(maps, learned.network.describe(scan))
        assert not maps.requires_grad


def test_the_squared_difference_of_joint_features_is_the_weighted_sum_of_both(
    learned: Learned, rng: torch.Generator
) -> None:
    scans = torch.rand(2, 1, 1, *SHAPE, generator=rng)
    mind = Mind(1, 2)

    def difference(maps: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return (maps[0] - maps[1]).square().sum(dim=1)

    joint = Joint(learned, mind, 0.3)
    expected = 0.3 * difference(learned(*scans)) + 0.7 * difference(mind(*scans))
    torch.testing.assert_close(difference(joint(*scans)), expected)
    assert joint.reach == max(learned.reach, 3)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_joint_features_need_both(learned: Learned, share: float) -> None:
    with pytest.raises(ValueError, match=f"learned_share must be between 0 and 1, got {share}"):
        Joint(learned, Mind(1, 1), share)
