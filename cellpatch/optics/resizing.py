"""Resizing along one axis as a matrix: of whole pixels, and of a window whose content appears larger or smaller."""

from math import ceil

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from cellpatch.optics.conditions import Resize


def resize_matrix(source_px: int, target_px: int, resize: Resize = "bilinear") -> Float[Tensor, "target source"]:
    """Resize along one axis: antialiased bilinear or bicubic, or means over areas."""
    if min(source_px, target_px) < 1:
        raise ValueError(f"sides must be >= 1 px, but got {source_px} and {target_px}")
    identity = torch.eye(source_px, dtype=torch.float64)[None, None]
    return interpolate(identity, (target_px, source_px), mode=resize, antialias=resize != "area")[0, 0]


def window_beyond_px(crop_px: int, magnification: float) -> float:
    """How far the window of stored pixels that is shown reaches beyond the crop on each side; negative within it."""
    return (crop_px / magnification - crop_px) / 2


def magnified_matrix(
    side_px: int, crop_px: int, resized_px: int, magnification: float, resize: Resize
) -> Float[Tensor, "resized side"]:
    """Resize along one axis of a window of crop / magnification pixels about the centre, a fraction of pixels too.

    The filters are those of the antialiased resize of torch, and of Pillow's with a box. `area` takes means over exact
    stretches of the window. Where a filter reaches beyond the side, the weights of its pixels are normalised to 1.
    """
    step = crop_px / magnification / resized_px  # stored pixels per resized one
    centres = side_px / 2 + (torch.arange(resized_px, dtype=torch.float64) + 0.5 - resized_px / 2) * step
    offsets = torch.arange(side_px, dtype=torch.float64) + 0.5 - centres[:, None]
    if resize == "area":
        weights = ((step + 1) / 2 - offsets.abs()).clamp(0, min(step, 1))
    else:
        weights = _FILTERS[resize]((offsets / max(step, 1)).abs())
    return weights / weights.sum(dim=1, keepdim=True)


def mirrored_px(side_px: int, crop_px: int, magnification: float) -> int:
    """Pixels that a window needs beyond the stored side, on each side of it."""
    return max(0, ceil(crop_px / magnification / 2 - side_px / 2))


def _triangle(x: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    return (1 - x).clamp(min=0)


def _cubic(x: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    """Keys 1981 with a = -1/2, which torch takes where it antialiases, and Pillow."""
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


_FILTERS = {"bilinear": _triangle, "bicubic": _cubic}
