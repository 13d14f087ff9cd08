"""From crops to logits: the one forward pass."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from cellpatch.models.backbone import Backbone
from cellpatch.optics.operator import Optics, RandomOptics, to_pixels


class Network(nn.Module):
    """Pixels, optics, backbone, head: training, evaluation, features, export and timing all run this.

    `optics` given to a method stands in for the network's own: one network under many conditions.
    """

    def __init__(self, backbone: Backbone, optics: Optics, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.optics = optics
        self.head = head

    def pixels(self, crops: UInt8[Tensor, "b side side 3"]) -> Float[Tensor, "b 3 kept kept"]:
        """What the optics read of stored crops, in [0, 1]."""
        return to_pixels(self.optics.trim(crops))

    def features(
        self, pixels: Float[Tensor, "b 3 h w"], optics: Optics | RandomOptics | None = None
    ) -> Float[Tensor, "b features"]:
        """Features of crops in [0, 1]."""
        return self.backbone((self.optics if optics is None else optics)(pixels))

    def classify_input(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b classes"]:
        """Logits of what the optics gave."""
        return self.head(self.backbone(x))

    def classify(
        self, pixels: Float[Tensor, "b 3 h w"], optics: Optics | RandomOptics | None = None
    ) -> Float[Tensor, "b classes"]:
        """Logits of crops in [0, 1]."""
        return self.head(self.features(pixels, optics))

    def forward(self, crops: UInt8[Tensor, "b side side 3"]) -> Float[Tensor, "b classes"]:
        """Logits of stored crops."""
        return self.classify(self.pixels(crops))


def assemble_network(backbone: Backbone, optics: Optics, head: nn.Module) -> Network:
    """A network whose tensors lie channels last.

    Two CPU cores, batches of 64, the eight networks of conf/model: up to 1.9 times as many cells/s as channels first.
    """
    return Network(backbone, optics, head).to(memory_format=torch.channels_last)
