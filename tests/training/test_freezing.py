import pytest
from torch import nn

from l2reg.models.lapirn import LapIRN
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
    freezing = FreezeSchedule(network, {"down*": 3, "up*": 5}, 10, stages=True)
    expected = {0: ["head"], 2: ["head"], 3: ["down", "head"], 5: ["down", "up", "head"]}
    for step in (5, 0, 3, 2):
        freezing.apply(step)
        assert learning(network) == expected[step]


def test_the_latest_step_counts_where_patterns_overlap(network: nn.Module) -> None:
    freezing = FreezeSchedule(network, {"*p.weight": 3, "up*": 1}, 10, stages=True)
    freezing.apply(2)
    assert learning(network) == ["down", "head"]


@pytest.mark.parametrize(
    ("until", "words"),
    [
        ({"encoder*": 3}, r"(?s)encoder\*.*matches no trainable parameter.*down\*, up\*, head\*"),
        ({"fixed*": 3}, "matches no trainable parameter"),
        ({"*": 3}, "freezes all parameters that the network would train in step 0"),
    ],
)
def test_a_schedule_that_cannot_be_meant_is_refused(
    network: nn.Module, until: dict[str, int], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        FreezeSchedule(network, until, 10, stages=True)


def staged_network() -> LapIRN:
    """Three levels: after 25 % and 50 % of the steps one is added, alone for 10 %."""
    return LapIRN(2, 1, 4, 0.4, None, 10.0, [0.25, 0.5, 1.0], 0.1, "displacement", "half")


def test_a_staged_network_trains_what_both_its_stage_and_the_schedule_train() -> None:
    until = {"levels.0.encode*": 10, "levels.1.encode*": 28, "levels.2.decode*": 70, "*shrink*": 40}
    network, stages_alone = staged_network(), staged_network()
    freezing = FreezeSchedule(network, until, 100, stages=True)
    for step in [*range(100), *range(99, -1, -7)]:  # and backwards: no step depends on another
        freezing.apply(step)
        stages_alone.set_progress(step / 100)
        for name, parameter in network.named_parameters():
            by_schedule = not (
                (name.startswith("levels.0.encode") and step < 10)
                or (name.startswith("levels.1.encode") and step < 28)
                or (name.startswith("levels.2.decode") and step < 70)
                or ("shrink" in name and step < 40)
            )
            by_stage = stages_alone.get_parameter(name).requires_grad
            assert parameter.requires_grad == (by_stage and by_schedule), (step, name)
        assert network.in_use == stages_alone.in_use


@pytest.mark.parametrize(
    ("until", "step"), [({"levels.0*": 1}, 0), ({"levels.1*": 36}, 25), ({"levels.2*": 900}, 50)]
)
def test_a_schedule_that_freezes_all_that_a_stage_trains_is_refused_before_training(
    until: dict[str, int], step: int
) -> None:
    with pytest.raises(InputError, match=f"would train in step {step}\n"):
        FreezeSchedule(staged_network(), until, 100, stages=True)


def test_without_stages_all_levels_are_used_and_trained_from_the_first_step() -> None:
    network = staged_network()
    freezing = FreezeSchedule(network, {"levels.0.decode*": 5}, 100, stages=False)
    freezing.apply(0)
    assert network.in_use == 3
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert frozen == {name for name, _ in network.named_parameters() if "levels.0.decode" in name}
    freezing.apply(5)
    assert all(parameter.requires_grad for parameter in network.parameters())
