"""What pretraining minimises: the backbone with a light head, which is dropped afterwards."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import mse_loss, pixel_shuffle

from cellpatch.models.backbone import Backbone


def draw_mask(cells: int, side: int, share: float, device: torch.device) -> Bool[Tensor, "cells side side"]:
    """Which blocks of each cell are hidden: exactly the same number in each, at least one and never all."""
    blocks = side**2
    hidden = min(max(round(share * blocks), 1), blocks - 1)
    ranks = torch.rand(cells, blocks, device=device).argsort(dim=1).argsort(dim=1)
    return (ranks < hidden).view(cells, side, side)


class MaskedImageModel(nn.Module):
    """Hide blocks of the input, and predict their pixels from the backbone's map of features.

    SimMIM (Xie et al., arXiv 2111.09886): a linear head of one 1x1 convolution, and the mean absolute difference of
    pixels over hidden blocks alone. That paper hides tokens; here blocks of pixels are hidden, as in A2MIM (Li et al.,
    arXiv 2205.13943), so that convolutional networks learn the same task. Hidden pixels take the mean colour of the
    crop's pixels that are seen, and the head predicts how they differ from it.
    """

    def __init__(self, backbone: Backbone, map_shape: tuple[int, int], mask_share: float, mask_px: int) -> None:
        super().__init__()
        channels, side = map_shape
        self.backbone = backbone
        self.mask_share = mask_share
        self.mask_px = mask_px
        self.pixels_per_place = backbone.input_px // side
        self.head = nn.Conv2d(channels, 3 * self.pixels_per_place**2, 1)

    def forward(self, x: Float[Tensor, "b 3 h w"], cells: Int[Tensor, " b"]) -> Float[Tensor, ""]:
        """The loss of inputs in [0, 1]; `cells` are their positions among the crops, and change nothing."""
        mask = draw_mask(len(x), x.shape[2] // self.mask_px, self.mask_share, x.device)
        hidden = mask.repeat_interleave(self.mask_px, dim=1).repeat_interleave(self.mask_px, dim=2)[:, None]
        predicted = self.predict(hide(x, hidden))
        return ((predicted.float() - x).abs() * hidden).sum() / (3 * hidden.sum())

    def predict(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Pixels of inputs whose hidden blocks are filled."""
        return x + pixel_shuffle(self.head(self.backbone.feature_map(x)), self.pixels_per_place)


def hide(x: Float[Tensor, "b 3 h w"], hidden: Bool[Tensor, "b 1 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Fill hidden pixels with the mean colour of those of the same crop that are seen."""
    seen = ~hidden
    colour = (x * seen).sum(dim=(2, 3), keepdim=True) / seen.sum(dim=(2, 3), keepdim=True)
    return torch.where(hidden, colour, x)


class FeatureRegression(nn.Module):
    """Predict a teacher's features from the backbone's by one linear layer.

    The mean squared difference (hints of FitNets, Romero et al., arXiv 1412.6550) from standardised features, so that
    each counts the same (Ranzinger et al., arXiv 2410.01680, compare ways of standardising). The loss is the share of
    the teacher's variance that is not explained: 1 for a prediction of the mean.
    """

    targets: Tensor

    def __init__(self, backbone: Backbone, targets: Float[Tensor, "n d"]) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.num_features, targets.shape[1])
        self.register_buffer("targets", targets, persistent=False)

    def forward(self, x: Float[Tensor, "b 3 h w"], cells: Int[Tensor, " b"]) -> Float[Tensor, ""]:
        """The loss of inputs in [0, 1]; `cells` are their positions among the targets."""
        return mse_loss(self.head(self.backbone(x)).float(), self.targets[cells])
