import pytest
from torch import nn

from l2reg.problems import InputError
from l2reg.training.freezing import FreezeSchedule


@pytest.fixture
def network() -> nn.Module:
    """Four layers, of which ``fixed`` never learns."""
    layers = {name: nn.Linear(2, 2, bias=False) for name in ("down", "up", "head", "fixed")}
    layers["fixed"].requires_grad_(requires_grad=False)
    return nn.ModuleDict(layers)


def learning(network: nn.Module) -> list[str]:
    return [n.split(".")[0] for n, p in network.named_parameters() if p.requires_grad]


def test_what_learns_depends_on_the_step_alone(network: nn.Module) -> None:
    freezing = FreezeSchedule(network, {"down*": 3, "up*": 5})
    expected = {0: ["head"], 2: ["head"], 3: ["down", "head"], 5: ["down", "up", "head"]}
    for step in (5, 0, 3, 2):
        freezing.apply(step)
        assert learning(network) == expected[step]


def test_the_latest_step_counts_where_patterns_overlap(network: nn.Module) -> None:
    freezing = FreezeSchedule(network, {"*p.weight": 3, "up*": 1})
    freezing.apply(2)
    assert learning(network) == ["down", "head"]


@pytest.mark.parametrize(
    ("until", "words"),
    [
        ({"encoder*": 3}, r"(?s)encoder\*.*matches no trainable parameter.*down\*, up\*, head\*"),
        ({"fixed*": 3}, "matches no trainable parameter"),
        ({"*": 3}, "freezes all parameters in the first step"),
    ],
)
def test_a_schedule_that_cannot_be_meant_is_refused(
    network: nn.Module, until: dict[str, int], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        FreezeSchedule(network, until)
