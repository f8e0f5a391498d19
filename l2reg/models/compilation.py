"""Compilation of networks: fused operators, at the price of a slow first step."""

import torch
import torch._dynamo
from torch import nn
from tqdm import tqdm


def compile_network(network: nn.Module) -> None:
    """Make a network run compiled, by ``torch.compile`` with its default backend.

    Weights and their names stay the same, results up to rounding. Parts that cannot be compiled, or
    all of it where there is no compiler (C++ for a CPU, Triton for a GPU), run as they are: PyTorch
    warns, and nothing else changes.

    Args:
        network: The network, changed in place; it is compiled at its first call, again for every
            other shape, and whenever parameters are frozen or released.
    """
    torch._dynamo.config.suppress_errors = True
    tqdm.write("trainer.compile=true: the network is compiled in its first step")
    network.compile()
