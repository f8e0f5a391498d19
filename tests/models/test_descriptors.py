import pytest
import torch

from l2reg.config.build import build
from l2reg.config.presets import load_preset
from l2reg.models.descriptors import DescriptorNetwork

SHAPE = (17, 33, 25)  # 2^3 n + 1: all grids have the same corners without padding


@pytest.fixture
def network() -> DescriptorNetwork:
    torch.manual_seed(0)
    return DescriptorNetwork([4, 6, 6], channels=5, levels=2)


def test_the_network_of_the_experiment_is_small() -> None:
    network = build(load_preset("experiment", "descriptors")["model"])
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    assert n_parameters == 915_380
    assert network.halvings == 4


@pytest.mark.parametrize("shape", [SHAPE, (16, 20, 23)])
def test_descriptors_have_unit_length_on_the_grid_of_the_scan(
    network: DescriptorNetwork, rng: torch.Generator, shape: tuple[int, int, int]
) -> None:
    maps = network.describe(torch.rand(2, 1, *shape, generator=rng))
    assert maps.shape == (2, 5, *shape)
    torch.testing.assert_close(maps.norm(dim=1), torch.ones(2, *shape))


def test_gain_and_offset_change_nothing(network: DescriptorNetwork, rng: torch.Generator) -> None:
    scan = torch.rand(1, 1, *SHAPE, generator=rng)
    torch.testing.assert_close(
        network.describe(scan), network.describe(7 * scan - 300), atol=1e-3, rtol=0
    )


def test_every_descriptor_is_centred_on_its_voxel(
    network: DescriptorNetwork, rng: torch.Generator
) -> None:
    """With symmetric kernels, the descriptors of a flipped scan are the flipped descriptors."""
    for parameter in network.parameters():
        if parameter.ndim == 5:
            parameter.data += parameter.data.flip(2, 3, 4)
    scan = torch.rand(1, 1, *SHAPE, generator=rng)
    flipped = network.describe(scan.flip(2, 3, 4)).flip(2, 3, 4)
    torch.testing.assert_close(flipped, network.describe(scan), atol=1e-4, rtol=0)


def test_both_scans_of_a_pair_are_described_alike_on_every_trained_level(
    network: DescriptorNetwork, rng: torch.Generator
) -> None:
    first, second = torch.rand(2, 1, 1, *SHAPE, generator=rng)
    views = network({"fixed": first, "moving": second})
    assert [tuple(maps.shape) for maps in views.fixed] == [(1, 5, 9, 17, 13), (1, 5, 5, 9, 7)]
    swapped = network({"fixed": second, "moving": first})
    for maps, other in zip(views.fixed, swapped.moving, strict=True):
        torch.testing.assert_close(maps, other, atol=1e-5, rtol=1e-4)
    at_voxels = network.describe(first)[:, :, ::2, ::2, ::2]
    torch.testing.assert_close(at_voxels, torch.nn.functional.normalize(views.fixed[0], dim=1))


def test_levels_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="levels must be from 1 to 2, one less than widths, got 3"):
        DescriptorNetwork([4, 6, 6], channels=5, levels=3)
