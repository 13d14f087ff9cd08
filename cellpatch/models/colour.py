"""Mean and spread of colour: what a network must beat to have learnt more than how dark a cell is."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from cellpatch.models.backbone import Backbone


class ColourStatistics(Backbone):
    """Mean and standard deviation of each channel's optical density, -log10((255 x + 1) / 256), over the input.

    It has no parameters. A constant channel has the deviation 0.
    """

    fixed: ClassVar[bool] = True

    def __init__(self, input_px: int) -> None:
        super().__init__()
        self.input_px = input_px
        self.num_features = 6

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 6"]:
        density = -torch.log10((255 * x + 1) / 256)
        spread, mean = torch.std_mean(density, dim=(2, 3), correction=0)
        return torch.cat([mean, spread], dim=1)
