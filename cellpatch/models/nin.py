"""Network in Network (Lin, Chen & Yan, arXiv 1312.4400) for small inputs."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from cellpatch.models.backbone import Backbone, Normalise


class NIN(Backbone):
    """Three stages of one spatial convolution and two 1x1 convolutions: a small network at each pixel.

    Kernel sides (5, 5, 3), dropout, and max and average pooling between the stages are those of the CIFAR network of
    arXiv 1312.4400. That network is three times as wide and has no batch norm, which we add. With widths 64, 96, 128 at
    40x40: 0.33 M parameters, 104 MMAC; the map before the mean is 10x10. arXiv 2603.04081 names a "NIN" without its
    shape; this shape is our choice. Raises ValueError unless there are three widths > 0 and dropout is in [0, 1).
    """

    def __init__(
        self,
        input_px: int,
        widths: Sequence[int],
        dropout: float,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        if len(widths) != 3 or min(widths) < 1 or not 0 <= dropout < 1:
            raise ValueError(f"widths must be three > 0 and dropout in [0, 1), but got {list(widths)} and {dropout}")
        self.input_px = input_px
        self.num_features = widths[-1]
        self.normalise = Normalise(mean, std)
        first, second, third = widths
        self.stages = nn.Sequential(
            *_stage(3, first, side=5),
            nn.MaxPool2d(3, stride=2, padding=1),
            nn.Dropout2d(dropout),
            *_stage(first, second, side=5),
            nn.AvgPool2d(3, stride=2, padding=1),
            nn.Dropout2d(dropout),
            *_stage(second, third, side=3),
        )

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b features"]:
        return self.feature_map(x).mean(dim=(2, 3))

    def feature_map(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b features rows columns"]:
        return self.stages(self.normalise(x))


def _stage(inputs: int, width: int, side: int) -> list[nn.Module]:
    return [*_convolve(inputs, width, side), *_convolve(width, width, 1), *_convolve(width, width, 1)]


def _convolve(inputs: int, width: int, side: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, width, side, padding=side // 2, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
