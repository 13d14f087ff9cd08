"""Crop and resize as one linear operator: y = A x Aᵀ per channel.

The operator is built by sending an identity through torch's antialiased resize (which is Pillow's), so it is
that resize, and composed with whatever else is linear and separable.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import interpolate


@dataclass(frozen=True)
class Condition:
    """How a crop reaches the model: `kind` none is the resize alone, at `sigma` 0.

    `via_px` is a side that every crop is resized to first, as the study's 40 px; null goes straight to the input.
    """

    kind: str
    sigma: float
    via_px: int | None

    def __post_init__(self) -> None:
        if self.via_px is not None and self.via_px < 4:
            raise ValueError(f"optics.via_px must be null or >= 4, but got {self.via_px}")
        if (self.kind, self.sigma) != ("none", 0):
            raise ValueError(
                f"optics.kind must be none and optics.sigma 0 (this version has no blur), "
                f"but got {self.kind} {self.sigma}"
            )


def crop_matrix(side_px: int, margin_px: int) -> Float[Tensor, "crop side"]:
    """Take the crop out of its margin: rows of an identity."""
    if not 0 <= margin_px < side_px / 2:
        raise ValueError(f"margin_px must leave a crop inside {side_px} px, but got {margin_px}")
    return torch.eye(side_px)[margin_px : side_px - margin_px]


def resize_matrix(source_px: int, target_px: int) -> Float[Tensor, "target source"]:
    """Antialiased bilinear resize along one axis."""
    if min(source_px, target_px) < 1:
        raise ValueError(f"sides must be >= 1 px, but got {source_px} and {target_px}")
    identity = torch.eye(source_px)[None, None]
    return interpolate(identity, (target_px, source_px), mode="bilinear", antialias=True)[0, 0]


class Optics(nn.Module):
    """From a stored crop with margin to a model's input, for square crops and inputs.

    Maps [b, 3, side, side] in [0, 1] to [b, 3, target, target] with side = crop + 2 margin. With `via_px`
    the crop is resized to that side first, and from there to the target.
    """

    operator: Tensor

    def __init__(self, crop_px: int, margin_px: int, target_px: int, via_px: int | None = None) -> None:
        super().__init__()
        side_px = crop_px + 2 * margin_px
        operator = crop_matrix(side_px, margin_px)
        for source_px, wanted_px in pairwise([crop_px, via_px or target_px, target_px]):
            operator = resize_matrix(source_px, wanted_px) @ operator
        used = operator.abs().sum(0).nonzero().squeeze(1)
        operator = operator[:, int(used[0]) : int(used[-1]) + 1].contiguous()  # zero columns need no arithmetic
        self.needed_px = operator.shape[1]  # the crop's centre of this side is all that the operator reads
        self.is_crop = operator.shape[0] == operator.shape[1] and torch.equal(operator, torch.eye(target_px))
        self.register_buffer("operator", operator, persistent=False)

    def trim(self, crops: UInt8[Tensor, "b side side 3"], extra_px: int) -> UInt8[Tensor, "b kept kept 3"]:
        """The centre that the operator reads and `extra_px` around it: what comes before it need not touch more."""
        cut = max(0, (crops.shape[1] - self.needed_px) // 2 - extra_px)
        return crops[:, cut : crops.shape[1] - cut, cut : crops.shape[2] - cut]

    def forward(self, x: Float[Tensor, "b 3 side side"]) -> Float[Tensor, "b 3 target target"]:
        """Crops of the stored side, or trimmed; raises ValueError on smaller ones or another parity."""
        cut, odd = divmod(x.shape[-1] - self.needed_px, 2)
        if cut < 0 or odd:
            raise ValueError(f"the operator takes crops of {self.needed_px} + 2n px, but got {x.shape[-1]}")
        x = x[..., cut : x.shape[-2] - cut, cut : x.shape[-1] - cut]
        return x if self.is_crop else self.operator @ x @ self.operator.T
