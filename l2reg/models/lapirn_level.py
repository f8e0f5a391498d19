"""One level of LapIRN."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from l2reg.shapes import Field, Image, PerPair

Embedding = Float[Tensor, "b width i j k"]
CoarserEmbedding = Float[Tensor, "b width half_i half_j half_k"]


class LapIRNLevel(nn.Module):
    """Residual blocks on half the level's grid; no layer has a bias, and the last starts at zero.

    Args:
        channels: Number of input channels: 2 at the coarsest level (moving and fixed image), 5 at
            finer ones (and the field so far).
        width: Feature maps.
        blocks: Residual blocks.
        hidden: Units of the layers that condition the blocks; ``None`` for unconditional blocks.
    """

    def __init__(self, channels: int, width: int, blocks: int, hidden: int | None) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            _convolution(channels, width), nn.LeakyReLU(0.2), _convolution(width, width)
        )
        self.shrink = _convolution(width, width, stride=2)
        self.blocks = nn.ModuleList(ResidualBlock(width, hidden) for _ in range(blocks))
        self.enlarge = nn.ConvTranspose3d(width, width, 2, stride=2, bias=False)
        self.decode = nn.Sequential(
            _convolution(2 * width, width), nn.LeakyReLU(0.2), _convolution(width, 3)
        )
        nn.init.zeros_(self.decode[-1].weight)  # type: ignore[arg-type]

    def forward(
        self, inputs: Image, embedding: CoarserEmbedding | None, condition: PerPair | None
    ) -> tuple[Field, Embedding]:
        """Return three components per voxel, and the embedding for the next finer level.

        Args:
            inputs: Moving and fixed image and, but at the coarsest level, the field so far.
            embedding: That of the coarser level, on half this grid.
            condition: One number per pair, in [0, 1].
        """
        skip = self.encode(inputs)
        maps = self.shrink(skip)
        if embedding is not None:
            maps = maps + embedding
        for block in self.blocks:
            maps = F.leaky_relu(block(maps, condition), 0.2)
        maps = self.enlarge(maps)
        return self.decode(torch.cat([maps, skip], dim=1)), maps


class ResidualBlock(nn.Module):
    """Two pre-activated convolutions, added to what enters.

    Args:
        width: Feature maps.
        hidden: ``None``, or units of the layers that turn the condition into scale and shift of a
            normalisation before each convolution.
    """

    def __init__(self, width: int, hidden: int | None) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(_convolution(width, width) for _ in range(2))
        self.modulations = None if hidden is None else Modulations(width, hidden, n=2)

    def forward(self, maps: Image, condition: PerPair | None) -> Image:
        """Return maps of the same size."""
        result = maps
        modulations: list[Tensor] = []
        if self.modulations is not None:
            modulations = self.modulations(condition)
        for n, convolution in enumerate(self.convolutions):
            if modulations:
                scale, shift = modulations[n].chunk(2, dim=1)
                result = F.instance_norm(result) * (1 + scale) + shift
            result = convolution(F.leaky_relu(result, 0.2))
        return maps + result


class Modulations(nn.Module):
    """Scales and shifts of feature maps, from one number per pair.

    Args:
        width: Feature maps.
        hidden: Units of each hidden layer.
        n: Places that are modulated.
    """

    def __init__(self, width: int, hidden: int, n: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs in (1, hidden, hidden, hidden):
            layers += [nn.Linear(inputs, hidden), nn.LeakyReLU(0.2)]
        self.shared = nn.Sequential(*layers)
        self.own = nn.ModuleList(nn.Linear(hidden, 2 * width) for _ in range(n))

    def forward(self, condition: PerPair) -> list[Tensor]:
        """Return scale and shift of every feature map for each place, ``(b, 2 width, 1, 1, 1)``."""
        hidden = self.shared(condition[:, None])
        return [linear(hidden)[:, :, None, None, None] for linear in self.own]


def _convolution(channels_in: int, channels_out: int, stride: int = 1) -> nn.Conv3d:
    return nn.Conv3d(channels_in, channels_out, 3, stride, padding=1, bias=False)
