"""Faults of the image other than blur, on pixels of stored crops with their margin, before the optics.

Each function maps [b, 3, h, w] in [0, 1] and a strength > 0, in the unit that FAULTS states, to the same shape. The
result of `apply_fault` is what a camera stores: clipped to [0, 1] and rounded to 8 bits. What is random depends on the
cell's own pixels alone, so that batch size, order and device do not change it, and equal crops look alike.
"""

from collections.abc import Callable
from io import BytesIO
from math import ceil, cos, floor, pi, radians, sin, sqrt

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from cellpatch.optics.conditions import STUDY_PX, Condition
from cellpatch.optics.pixel_random import cell_seeds, normal, uniform
from cellpatch.optics.resizing import window_beyond_px

_NOISE_CELLS = 64  # at a time: a draw takes up to 100 bytes per pixel and channel
# Chosen by eye, on synthetic cells and on real ones.
_DUST = 0.15  # share of the light that passes a speck
_BUBBLE, _RIM = 0.5, 0.45  # share of the optical density that a bubble leaves, and of the light that passes its rim
_RIM_WIDTH = 0.15  # of a bubble's radius, at least a pixel

Pixels = Float[Tensor, "b 3 h w"]


def apply_fault(x: Pixels, condition: Condition, crop_px: int) -> Pixels:
    """Crops of `crop_px` with their margin under a fault; raises KeyError for a kind that does not act on pixels."""
    return _as_bytes(_STEPS[condition.kind](x, condition.sigma, crop_px)) / 255


def acts_on_pixels(condition: Condition) -> bool:
    """Whether `apply_fault` applies the condition; larger and smaller are steps of the optics."""
    return condition.kind in _STEPS and condition.sigma > 0


def fault_reach(condition: Condition, crop_px: int) -> float:
    """Stored pixels beyond the crop that a fault moves into it; 0 for those that move none."""
    if condition.kind == "chromatic":
        return _half_apart(condition.sigma, crop_px)
    return max(0.0, window_beyond_px(crop_px, condition.magnification))


def _as_bytes(x: Pixels) -> Pixels:
    return (x * 255).round().clamp(0, 255)


def _jpeg(x: Pixels, strength: float, crop_px: int) -> Pixels:
    """Written as JPEG of quality 100 - strength, rounded, and read again, on the CPU whatever the device."""
    images = _as_bytes(x).byte().permute(0, 2, 3, 1).cpu()
    return jpeg_round_trips(images, max(1, round(100 - strength))).to(x.device).permute(0, 3, 1, 2) / 255


def jpeg_round_trips(images: UInt8[Tensor, "b h w 3"], quality: int) -> UInt8[Tensor, "b h w 3"]:
    """Images, each written by libjpeg at a quality from 1 to 100 with 4:2:0 chroma, and read again."""
    read = []
    for image in images.numpy():
        file = BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling="4:2:0")
        read.append(np.asarray(Image.open(file)))
    return torch.from_numpy(np.stack(read))


def _noise(x: Pixels, strength: float, crop_px: int) -> Pixels:
    """Gaussian noise of the sensor, independent in each pixel and channel; its standard deviation is the strength."""
    deviates = [normal(cell_seeds(part), part.shape[1:].numel()) for part in x.split(_NOISE_CELLS)]
    return x + strength / 255 * torch.cat(deviates).view_as(x)


def _darker(x: Pixels, strength: float, crop_px: int) -> Pixels:
    return x * (1 - strength / 100)


def _brighter(x: Pixels, strength: float, crop_px: int) -> Pixels:
    return x * (1 + strength / 100)


def _pale_stain(x: Pixels, strength: float, crop_px: int) -> Pixels:
    """Optical density times 1 - strength / 100. By Beer-Lambert that is a power of the transmission: also a gamma."""
    return x ** (1 - strength / 100)


def _strong_stain(x: Pixels, strength: float, crop_px: int) -> Pixels:
    return x ** (1 + strength / 100)


def _hue(x: Pixels, strength: float, crop_px: int) -> Pixels:
    """Optical densities of red, green and blue, turned about the grey axis (Rodrigues' formula)."""
    density = -x.clamp(min=1 / 255).log10()
    across = density.roll(1, dims=1) - density.roll(-1, dims=1)  # the cross product with (1, 1, 1)
    angle = radians(strength)
    mean = density.mean(dim=1, keepdim=True)
    turned = cos(angle) * density + (1 - cos(angle)) * mean + sin(angle) / sqrt(3) * across
    return 10 ** -turned.clamp(min=0)


def _chromatic(x: Pixels, strength: float, crop_px: int) -> Pixels:
    """Red and blue apart by the strength along a row, each moved by half of it; linear between pixels."""
    half = _half_apart(strength, crop_px)
    red, green, blue = x.split(1, dim=1)
    return torch.cat([_moved(red, half), green, _moved(blue, -half)], dim=1)


def _half_apart(strength: float, crop_px: int) -> float:
    return strength / 2 * crop_px / STUDY_PX


def _moved(x: Float[Tensor, "b 1 h w"], by_px: float) -> Float[Tensor, "b 1 h w"]:
    """Moved to the right by a fraction of pixels, the border reflected."""
    reach, whole = ceil(abs(by_px)), floor(by_px)
    share, width = by_px - whole, x.shape[-1]
    around = pad(x, (reach + 1, reach + 1, 0, 0), mode="reflect")
    near, far = reach + 1 - whole, reach - whole
    return (1 - share) * around[..., near : near + width] + share * around[..., far : far + width]


def _dust(x: Pixels, strength: float, crop_px: int) -> Pixels:
    """An opaque speck that covers a share of the crop."""
    covered = _disc(x, strength, crop_px, stream=1)[0]
    return x * (1 - covered) + _DUST * covered


def _bubble(x: Pixels, strength: float, crop_px: int) -> Pixels:
    """An air bubble under the coverslip that covers a share of the crop: pale inside, with a dark rim."""
    covered, inside = _disc(x, strength, crop_px, stream=2)
    pale = x**_BUBBLE
    return x * (1 - covered) + covered * pale * (inside + (1 - inside) * _RIM)


def _disc(
    x: Pixels, percent: float, crop_px: int, stream: int
) -> tuple[Float[Tensor, "b 1 h w"], Float[Tensor, "b 1 h w"]]:
    """How far each pixel lies in a disc and within its rim, in [0, 1]; the disc lies anywhere within the crop."""
    radius = sqrt(percent / 100 / pi) * crop_px
    centre = uniform(cell_seeds(x), 2, stream) * (crop_px - 2 * radius) + radius - crop_px / 2
    rows, columns = ((torch.arange(side, device=x.device) + 0.5) - side / 2 for side in x.shape[-2:])
    down = (rows - centre[:, :1])[:, None, :, None]
    right = (columns - centre[:, 1:])[:, None, None, :]
    depth = radius - (down**2 + right**2).sqrt()
    rim = max(1.0, _RIM_WIDTH * radius)
    return (depth + 0.5).clamp(0, 1), (depth - rim + 0.5).clamp(0, 1)


_STEPS: dict[str, Callable[[Pixels, float, int], Pixels]] = {
    "jpeg": _jpeg,
    "noise": _noise,
    "darker": _darker,
    "brighter": _brighter,
    "pale_stain": _pale_stain,
    "strong_stain": _strong_stain,
    "hue": _hue,
    "chromatic": _chromatic,
    "bubble": _bubble,
    "dust": _dust,
}
