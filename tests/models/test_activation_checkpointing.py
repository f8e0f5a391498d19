from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from l2reg.batch import Batch
from l2reg.models.activation_checkpointing import recompute_activations

Networks = Callable[..., nn.Module]
Batches = Callable[..., dict[str, torch.Tensor]]
Awake = Callable[[nn.Module], nn.Module]

SHAPE = (18, 20, 22)
SMALL = {
    "unet": ["encoder=[4,4,4]", "decoder=[4,4]", "final=[4,4]"],
    "siamese_unet": ["encoder=[4,4,4]", "convs_per_level=[2,2]", "segmentation_labels=2"],
    "pyramid": [],
    "clapirn": ["width=4", "blocks=2"],
    "vfa": ["encoder=[4,4,4]", "decoder=[4,4]"],
    "sitreg": ["features=[4,4]", "estimator=[4,4]"],
    "monai_segresnet": [],
}


def step(net: nn.Module, batch: Batch) -> tuple[dict[str, Tensor], int]:
    """Return the gradients of one step, and the bytes that its forward pass kept."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    torch.manual_seed(1)
    net.zero_grad()
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        prediction = net(batch)
    fields = [prediction.disp, *(level.disp for level in prediction.levels)]
    sum(field.square().mean() for field in fields).backward()
    gradients = {n: p.grad for n, p in net.named_parameters() if p.grad is not None}
    return gradients, sum(kept.values())


@pytest.mark.parametrize(
    "name",
    ["unet", "siamese_unet", "clapirn", "vfa", "sitreg"]
    + [pytest.param(name, marks=pytest.mark.slow) for name in ("pyramid", "monai_segresnet")],
)
def test_gradients_are_equal_and_less_is_kept(
    name: str, network: Networks, batch: Batches, awake: Awake
) -> None:
    plain = awake(network(name, *(f"model.{option}" for option in SMALL[name]))).train()
    recomputing = deepcopy(plain)
    assert recompute_activations(recomputing) > 1
    pair = batch(*SHAPE)
    (expected, before), (gradients, after) = step(plain, pair), step(recomputing, pair)
    assert gradients.keys() == expected.keys()
    for parameter, gradient in gradients.items():
        assert torch.equal(gradient, expected[parameter]), parameter
    assert after < 0.7 * before
    assert recomputing.state_dict().keys() == plain.state_dict().keys()


def test_a_copy_of_the_network_recomputes_with_weights_of_its_own(
    network: Networks, batch: Batches, awake: Awake
) -> None:
    net = awake(network("unet", *(f"model.{option}" for option in SMALL["unet"]))).train()
    recompute_activations(net)
    copy = deepcopy(net)
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.zero_()
    assert copy(batch(*SHAPE)).disp.abs().max() == 0
    assert net(batch(*SHAPE)).disp.abs().max() > 0
