import torch
from torch import nn

from l2reg.models.lapirn_level import LapIRNLevel

SHAPE = (9, 11, 13)


def level(*, conditional: bool = False) -> LapIRNLevel:
    torch.manual_seed(0)
    network = LapIRNLevel(5, encoder_width=4, width=4, enlarged_width=4, blocks=2,
                          hidden=64 if conditional else None, same_corners=True)  # fmt: skip
    nn.init.normal_(network.decode[-1].weight)
    return network


def test_the_embedding_of_a_level_fits_the_blocks_of_the_next(rng: torch.Generator) -> None:
    coarse, fine = (
        torch.rand(1, 5, *SHAPE, generator=rng),
        torch.rand(1, 5, 17, 21, 25, generator=rng),
    )
    components, embedding = level()(coarse, None, None)
    assert components.shape == (1, 3, *SHAPE)
    without, _ = level()(fine, None, None)
    with_it, _ = level()(fine, embedding, None)
    assert without.shape == (1, 3, 17, 21, 25)
    assert not torch.allclose(without, with_it)


def test_each_pair_follows_its_own_condition(rng: torch.Generator) -> None:
    conditioned = level(conditional=True)
    inputs = torch.rand(1, 5, *SHAPE, generator=rng).expand(2, -1, -1, -1, -1)
    both, _ = conditioned(inputs, None, torch.tensor([0.1, 0.9]))
    assert not torch.allclose(both[0], both[1])
    alone, _ = conditioned(inputs[:1], None, torch.tensor([0.9]))
    torch.testing.assert_close(alone[0], both[1])
