"""Network of one level of LapIRN, and the modulation that conditions it on the smoothness."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from l2reg.models.blocks import DoublingConv
from l2reg.shapes import Field, Image, PerPair

Embedding = Float[Tensor, "b enlarged_width i j k"]
CoarserEmbedding = Float[Tensor, "b width half_i half_j half_k"]


class LapIRNLevel(nn.Module):
    """Encoder, residual blocks on half the level's grid, and decoder to three components.

    No convolution has a bias, and the weights of the last one are zero at first.

    Args:
        channels: Number of input channels: 2 at the coarsest level (moving and fixed image), 5 at
            finer ones (and the field so far).
        encoder_width: Number of feature maps of the encoder.
        width: Number of feature maps of the residual blocks. The decoder has the mean of the
            numbers of maps that it takes from the encoder and the blocks.
        enlarged_width: Number of feature maps of the blocks after they are enlarged: ``width`` at
            all but the finest level, the blocks of the next level add them.
        blocks: Number of residual blocks.
        hidden: Number of units of the layers that condition the blocks; ``None`` for unconditional
            blocks.
        same_corners: Whether the maps are enlarged such that both grids have the same corners:
            m voxels become 2 m - 1, else 2 m.
    """

    def __init__(
        self,
        channels: int,
        *,
        encoder_width: int,
        width: int,
        enlarged_width: int,
        blocks: int,
        hidden: int | None,
        same_corners: bool,
    ) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            _convolution(channels, encoder_width),
            nn.LeakyReLU(0.2),
            _convolution(encoder_width, encoder_width),
        )
        self.shrink = _convolution(encoder_width, width, stride=2)
        self.blocks = nn.ModuleList(ResidualBlock(width, hidden) for _ in range(blocks))
        self.enlarge: nn.Module
        if same_corners:
            self.enlarge = DoublingConv(width, enlarged_width, bias=False)
        else:
            self.enlarge = nn.ConvTranspose3d(width, enlarged_width, 2, stride=2, bias=False)
        decoder_input = enlarged_width + encoder_width
        self.decode = nn.Sequential(
            _convolution(decoder_input, decoder_input // 2),
            nn.LeakyReLU(0.2),
            _convolution(decoder_input // 2, 3),
        )
        nn.init.zeros_(self.decode[-1].weight)  # type: ignore[arg-type]

    def forward(
        self, inputs: Image, embedding: CoarserEmbedding | None, condition: PerPair | None
    ) -> tuple[Field, Embedding]:
        """Return three components per voxel, and the embedding for the next finer level.

        Args:
            inputs: Moving image, fixed image and, at all but the coarsest level, the field so far.
            embedding: Embedding of the coarser level, on half this grid; ``None`` at the coarsest.
            condition: Smoothness of each pair as a fraction of the largest one, in [0, 1].
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
    """Residual block: two convolutions, each after its activation, added to the input.

    Args:
        width: Number of feature maps.
        hidden: Number of units of the layers that convert the condition to scale and shift of an
            instance normalisation before each convolution; ``None`` for no normalisation.
    """

    def __init__(self, width: int, hidden: int | None) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(_convolution(width, width) for _ in range(2))
        self.modulations = None if hidden is None else Modulations(width, hidden, n=2)

    def forward(self, maps: Image, condition: PerPair | None) -> Image:
        """Return feature maps of the same size; ``condition`` is in [0, 1]."""
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
    """Fully connected network from one number per pair to scales and shifts of feature maps.

    Args:
        width: Number of feature maps.
        hidden: Number of units of each hidden layer.
        n: Number of layers that are modulated.
    """

    def __init__(self, width: int, hidden: int, n: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs in (1, hidden, hidden, hidden):
            layers += [nn.Linear(inputs, hidden), nn.LeakyReLU(0.2)]
        self.shared = nn.Sequential(*layers)
        self.own = nn.ModuleList(nn.Linear(hidden, 2 * width) for _ in range(n))

    def forward(self, condition: PerPair) -> list[Tensor]:
        """Return scales and shifts for each modulated layer, each ``(b, 2 width, 1, 1, 1)``."""
        hidden = self.shared(condition[:, None])
        return [linear(hidden)[:, :, None, None, None] for linear in self.own]


def _convolution(channels_in: int, channels_out: int, stride: int = 1) -> nn.Conv3d:
    return nn.Conv3d(channels_in, channels_out, 3, stride, padding=1, bias=False)
