"""Crop, blur and resize as one linear operator: y = A x Aᵀ per channel.

Each step is a matrix built by sending an identity through a library's own operation (Kornia's Gaussian blur, torch's
antialiased resize, which is Pillow's); their product is applied at once. Steps are those of a slide: a window around
the crop is blurred and resized, and cut to the crop last, so that neither sees a border while the margin suffices.
"""

from dataclasses import dataclass
from math import ceil, gcd
from typing import Any

import torch
from jaxtyping import Float, UInt8
from kornia.filters import filter2d, get_gaussian_kernel1d
from torch import Tensor, nn
from torch.nn.functional import interpolate

STUDY_PX = 40  # sigma is in pixels of the study's 40x40 input


@dataclass(frozen=True)
class Condition:
    """What a crop went through: `kind` none (sigma 0), pre or post; sigma in pixels of the 40x40 input."""

    kind: str
    sigma: float


CLEAN = Condition("none", 0.0)


@dataclass(frozen=True)
class Conditions:
    """The conditions that a run is evaluated under: clean, and each kind at each sigma.

    `via_px` is a side that every crop is resized to first, as the study's 40 px; null goes straight to the input.
    Raises ValueError for an unknown kind, or a sigma that is no number >= 0.
    """

    kind: str | list[str]
    sigma: float | list[float]
    via_px: int | None

    def __post_init__(self) -> None:
        if self.via_px is not None and self.via_px < 4:
            raise ValueError(f"optics.via_px must be null or >= 4, but got {self.via_px}")
        unknown = [kind for kind in _listed(self.kind) if kind not in ("none", "pre", "post")]
        if unknown or not _listed(self.kind):
            raise ValueError(f"optics.kind must be of none, pre and post, but got {self.kind}")
        if not all(0 <= sigma < float("inf") for sigma in _listed(self.sigma)) or not _listed(self.sigma):
            raise ValueError(f"optics.sigma must be finite and >= 0, but got {self.sigma}")

    def each(self) -> list[Condition]:
        """Clean first, then every other condition once, by kind and sigma."""
        asked = [Condition(kind, float(sigma)) for kind in _listed(self.kind) for sigma in _listed(self.sigma)]
        blurred = {condition for condition in asked if condition.sigma > 0 and condition.kind != "none"}
        return [CLEAN, *sorted(blurred, key=lambda condition: (condition.kind, condition.sigma))]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def blur_matrix(side_px: int, sigma_px: float) -> Float[Tensor, "side side"]:
    """Gaussian blur along one axis: Kornia's sampled kernel, radius ceil(4 sigma), borders reflected.

    Sigma 0 is the identity. A sampled kernel is as wide as asked from 0.8 px on; at 0.4 px its standard deviation is
    0.28 px. Raises ValueError if sigma is negative or the kernel reaches the side.
    """
    if not 0 <= sigma_px < float("inf"):
        raise ValueError(f"sigma must be finite and >= 0, but got {sigma_px}")
    identity = torch.eye(side_px, dtype=torch.float64)
    radius = ceil(4 * sigma_px)
    if radius == 0:
        return identity
    if radius >= side_px:
        raise ValueError(
            f"a blur of sigma {sigma_px:g} px reaches {radius} px, but the crop with its margin has only {side_px}"
        )
    kernel = get_gaussian_kernel1d(2 * radius + 1, sigma_px, dtype=torch.float64)
    return filter2d(identity[None, None], kernel[:, :, None], border_type="reflect")[0, 0]


def resize_matrix(source_px: int, target_px: int) -> Float[Tensor, "target source"]:
    """Antialiased bilinear resize along one axis."""
    if min(source_px, target_px) < 1:
        raise ValueError(f"sides must be >= 1 px, but got {source_px} and {target_px}")
    identity = torch.eye(source_px, dtype=torch.float64)[None, None]
    return interpolate(identity, (target_px, source_px), mode="bilinear", antialias=True)[0, 0]


def window_px(crop_px: int, margin_px: int, target_px: int) -> int:
    """Pixels beyond the crop, on each side, that a resize turns into whole pixels: the most that the margin holds."""
    step = crop_px // gcd(crop_px, target_px)
    return margin_px // step * step


def axis_operator(
    crop_px: int, margin_px: int, target_px: int, via_px: int | None, kind: str = "none", sigma: float = 0.0
) -> Float[Tensor, "target side"]:
    """From a stored crop of side crop + 2 margin to the input, along one axis.

    `pre` blurs native pixels by sigma * crop / 40 before the resize to `via_px` (or the target, if None), `post` the
    resized image by sigma in pixels of 40x40; `none` does neither.
    """
    if not margin_px >= 0:
        raise ValueError(f"margin_px must be >= 0, but got {margin_px}")
    if kind not in ("none", "pre", "post"):
        raise ValueError(f"kind must be none, pre or post, but got {kind!r}")
    side_px, resized_px = crop_px + 2 * margin_px, via_px or target_px
    steps = blur_matrix(side_px, sigma * crop_px / STUDY_PX if kind == "pre" else 0.0)
    around = window_px(crop_px, margin_px, resized_px)
    steps = steps[margin_px - around : side_px - margin_px + around]
    beyond = around * resized_px // crop_px
    steps = resize_matrix(crop_px + 2 * around, resized_px + 2 * beyond) @ steps
    steps = blur_matrix(len(steps), sigma * resized_px / STUDY_PX if kind == "post" else 0.0) @ steps
    steps = steps[beyond : len(steps) - beyond]
    return (resize_matrix(resized_px, target_px) @ steps).float()


class Optics(nn.Module):
    """From a stored crop with margin to a model's input, for square crops and inputs.

    Maps [b, 3, side, side] in [0, 1] to [b, 3, target, target] with side = crop + 2 margin. With `via_px`
    the crop is resized to that side first, and from there to the target.
    """

    operator: Tensor

    def __init__(
        self,
        crop_px: int,
        margin_px: int,
        target_px: int,
        via_px: int | None = None,
        condition: Condition = CLEAN,
    ) -> None:
        super().__init__()
        whole = axis_operator(crop_px, margin_px, target_px, via_px, condition.kind, condition.sigma)
        used = whole.abs().sum(0).nonzero().squeeze(1)
        cut = min(int(used[0]), whole.shape[1] - 1 - int(used[-1]))  # zero columns need no arithmetic
        whole = whole[:, cut : whole.shape[1] - cut].contiguous()
        self.needed_px = whole.shape[1]  # the crop's centre of this side is all that the operator reads
        self.is_crop = whole.shape[0] == whole.shape[1] and torch.equal(whole, torch.eye(target_px))
        self.register_buffer("operator", whole, persistent=False)

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
