"""A small convolutional network: the baseline that a larger model has to beat."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from cellpatch.models.backbone import Backbone, Normalise


class CNN(Backbone):
    """Stages of two 3x3 convolutions, each stage ending in a 2x2 max pool, then the mean over the map.

    With widths 32, 64, 128, 256 at 40x40: 1.17 M parameters, 82 MMAC; the map before the mean is 5x5.
    arXiv 2603.04081 names a "CNN" without its shape; this shape is our choice. Raises ValueError unless there is at
    least one width and all are > 0.
    """

    def __init__(
        self,
        input_px: int,
        widths: Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        if not widths or min(widths) < 1:
            raise ValueError(f"widths must have at least one value, each > 0, but got {list(widths)}")
        self.input_px = input_px
        self.num_features = widths[-1]
        self.normalise = Normalise(mean, std)
        layers: list[nn.Module] = []
        for i, (inputs, outputs) in enumerate(zip((3, *widths[:-1]), widths, strict=True)):
            if i:
                layers.append(nn.MaxPool2d(2))
            layers += [_convolve(inputs, outputs), _convolve(outputs, outputs)]
        self.stages = nn.Sequential(*layers)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b features"]:
        return self.feature_map(x).mean(dim=(2, 3))

    def feature_map(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b features rows columns"]:
        return self.stages(self.normalise(x))


def _convolve(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )
