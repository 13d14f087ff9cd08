"""What every backbone is, and what all of them need."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


class Backbone(nn.Module):
    """Maps [b, 3, input_px, input_px] in [0, 1] to features [b, num_features]."""

    input_px: int
    num_features: int


class Normalise(nn.Module):
    """Subtract the mean and divide by the standard deviation, per channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f"mean and std must have 3 values, std > 0, but got {mean} and {std}")
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        return (x - self.mean) / self.std


def count_parameters(model: nn.Module) -> int:
    """Number of trainable and frozen parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(backbone: Backbone) -> int:
    """Multiply-accumulates of one forward pass of one input (convolutions and matrix products)."""
    was_training = backbone.training
    backbone.eval()
    device = next(backbone.parameters()).device
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        backbone(torch.zeros(1, 3, backbone.input_px, backbone.input_px, device=device))
    backbone.train(was_training)
    return counter.get_total_flops() // 2
