"""Linear layers of a frozen network by oneDNN on a CPU, their weights laid out once.

torch leaves products in 32 bits to MKL, which takes its path for AVX2 on AMD's processors, whatever they offer.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class PackedLinear(nn.Module):
    """A linear layer with its weight in oneDNN's own layout, for inference on a CPU.

    Products are those of `nn.Linear` up to rounding. It has no parameters: state and device of a network pass it by.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self._packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach().contiguous(), None)
        self.bias = None if layer.bias is None else layer.bias.detach()

    @property
    def weight(self) -> Float[Tensor, "n_out n_in"]:
        """For networks that multiply by a layer's weight themselves."""
        return self._packed.to_dense()

    def forward(self, x: Float[Tensor, "*b n_in"]) -> Float[Tensor, "*b n_out"]:
        return torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, "none", [], "")


def can_pack() -> bool:
    """Whether this build of torch has oneDNN's linear layers."""
    names = ("_reorder_linear_weight", "_linear_pointwise")
    return torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in names)


def pack_linear_layers(network: nn.Module) -> None:
    """Replace every linear layer of 32 bits inside a network; their first weights are freed."""
    for parent in [*network.modules()]:
        for name, layer in parent.named_children():
            if type(layer) is nn.Linear and layer.weight.dtype == torch.float32:
                setattr(parent, name, PackedLinear(layer))
