"""Backbone: a registration network from any network that maps two channels to feature maps."""

import torch
from torch import nn

from l2reg.batch import Batch
from l2reg.models.blocks import crop_prediction, pad_to_multiple
from l2reg.models.heads import FieldHead
from l2reg.models.prediction import Prediction
from l2reg.shapes import WorkingGrid, as_working_grid


class Backbone(nn.Module):
    """Applies ``network`` to the stacked pair, and a field head to its feature maps.

    The network should centre the receptive field of every voxel at the same distance from it, as
    those do that halve by convolutions of stride 2 and double by linear interpolation between voxel
    edges: the maps of MONAI's SegResNet are shifted by 0.5, 1.5 and 3.5 voxels at its coarser
    levels, the same everywhere. With transposed convolutions or nearest neighbours the distance
    varies from voxel to voxel.

    Args:
        network: Network that maps ``(b, 2, i, j, k)`` to ``(b, channels, i, j, k)``, or to a list
            or tuple whose first entry has that shape.
        channels: Number of feature maps that the network returns.
        stride: Number whose multiples the network accepts as input sizes; images are padded to the
            next multiple, fields are cropped.
        head: Kind of the field head: ``displacement``, ``velocity`` or ``gradient``.
        grid: Working grid.
    """

    def __init__(
        self,
        network: nn.Module,
        channels: int,
        stride: int,
        head: str,
        grid: WorkingGrid,
    ) -> None:
        super().__init__()
        self.grid = as_working_grid(grid)
        self.network = network
        self.stride = stride
        self.min_size = stride
        self.head = FieldHead(head, channels)

    def forward(self, batch: Batch) -> Prediction:
        """Return the field that aligns ``batch["moving"]`` with ``batch["fixed"]``."""
        pair = torch.cat([batch["fixed"], batch["moving"]], dim=1)
        maps = self.network(pad_to_multiple(pair, self.stride))
        maps = maps if isinstance(maps, torch.Tensor) else maps[0]
        i, j, k = maps.shape[2:]
        return crop_prediction(self.head(maps, (i, j, k)), pair.shape[2:])
