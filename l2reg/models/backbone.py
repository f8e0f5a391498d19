"""Any network that maps a two-channel volume to feature maps, made a registration network."""

import torch
from torch import nn

from l2reg.batch import Batch
from l2reg.models.blocks import crop_prediction, pad_to_multiple
from l2reg.models.heads import FieldHead
from l2reg.models.prediction import Prediction
from l2reg.shapes import WorkingGrid, as_working_grid


class Backbone(nn.Module):
    """Stacks the pair, lets ``network`` look at it, and makes a field of what it returns.

    Args:
        network: Takes ``(b, 2, i, j, k)`` and returns ``(b, channels, i, j, k)``, or a list or
            tuple that begins with that.
        channels: Feature maps that it returns.
        stride: Its input sizes must be multiples of this; images are padded, fields are cropped.
        head: ``displacement``, ``velocity`` or ``gradient``.
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
        self.head = FieldHead(head, channels)

    def forward(self, batch: Batch) -> Prediction:
        """Return the field that brings ``batch["moving"]`` onto ``batch["fixed"]``."""
        pair = torch.cat([batch["fixed"], batch["moving"]], dim=1)
        maps = self.network(pad_to_multiple(pair, self.stride))
        maps = maps if isinstance(maps, torch.Tensor) else maps[0]
        i, j, k = maps.shape[2:]
        return crop_prediction(self.head(maps, (i, j, k)), pair.shape[2:])
