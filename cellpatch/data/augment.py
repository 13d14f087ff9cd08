"""Training-time augmentation: flips, right-angle rotations, small shifts, stain jitter in optical density, erasing."""

import hashlib
from math import log

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn


def jitter_stain(
    crops: UInt8[Tensor, "b h w 3"], gain: Float[Tensor, "b 3"], offset: Float[Tensor, "b 3"]
) -> Float[Tensor, "b 3 h w"]:
    """Scale and shift each channel's optical density, -log10 of transmission (Beer-Lambert); output in [0, 1].

    On transmission t this is a power and a factor: 10^-(g d + o) = t^g 10^-o. It is computed once for each of the 256
    values of a pixel.
    """
    transmission = torch.arange(256, device=crops.device) / 255
    table = (transmission ** gain[..., None] * 10 ** -offset[..., None]).clamp(0, 1)
    channels = crops.permute(0, 3, 1, 2)
    return table.gather(2, channels.flatten(2).long()).view(channels.shape)


def turn_and_shift(
    crops: UInt8[Tensor, "b side side 3"], keep_px: int, shift_px: int
) -> UInt8[Tensor, "b keep_px keep_px 3"]:
    """The centre of each crop, shifted by a random whole number of pixels in [-shift_px, shift_px] and turned.

    The turn is one of the eight flips and right-angle rotations. Pixels beyond the border are filled by reflection.
    This is one gather: a batch of 64 takes 0.6 ms on one core, Kornia's flips, rotation and shifts take 7 ms.
    """
    b, side = crops.shape[:2]
    device = crops.device
    windows = _windows(side, keep_px, shift_px).to(device, non_blocking=True)
    rows, columns = windows[torch.randint(0, len(windows), (2, b), device=device)]
    down, across, swapped = torch.randint(0, 2, (3, b, 1), device=device).bool()
    rows = side * torch.where(down, rows.flip(1), rows)
    columns = torch.where(across, columns.flip(1), columns)
    first = torch.where(swapped, columns, rows) + side**2 * torch.arange(b, device=device)[:, None]
    second = torch.where(swapped, rows, columns)
    pixels = first[:, :, None] + second[:, None, :]
    return crops.reshape(-1, 3).index_select(0, pixels.flatten()).view(b, keep_px, keep_px, 3)


def _windows(side: int, keep_px: int, shift_px: int) -> Int[Tensor, "shifts keep_px"]:
    """Pixel positions along an axis for each shift, reflected into [0, side)."""
    start = (side - keep_px) // 2
    positions = torch.arange(start, start + keep_px) + torch.arange(-shift_px, shift_px + 1)[:, None]
    folded = positions % (2 * (side - 1))
    return torch.minimum(folded, 2 * (side - 1) - folded)


def erase(x: Float[Tensor, "b 3 h w"], chance: float) -> Float[Tensor, "b 3 h w"]:
    """Fill a box of some crops with the crop's mean colour (random erasing, Zhong et al., arXiv 1708.04896).

    A box covers 2 % to 33 % of the crop, its height is 0.3 to 3.3 times its width, and it lies within the crop: these
    are timm's values. timm's and torchvision's `RandomErasing` draw crop by crop, from generators of the CPU.
    """
    b, _, h, w = x.shape
    chosen, top, left, area, ratio = torch.rand(5, b, device=x.device)
    area = 0.02 + (1 / 3 - 0.02) * area
    ratio = (log(3.3) * (2 * ratio - 1)).exp()
    height, width = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    rows = stretches(height / 2 + top * (1 - height), height, h)[:, None, :, None]
    columns = stretches(width / 2 + left * (1 - width), width, w)[:, None, None, :]
    inside = rows & columns & (chosen < chance)[:, None, None, None]
    return torch.where(inside, x.mean(dim=(2, 3), keepdim=True), x)


def stretches(centres: Float[Tensor, " b"], lengths: Float[Tensor, " b"], pixels: int) -> Bool[Tensor, "b pixels"]:
    """Whether the middle of each pixel of an axis lies in a stretch; centre and length are shares of the axis."""
    middles = (torch.arange(pixels, device=centres.device) + 0.5) / pixels
    return (middles - centres[:, None]).abs() < lengths[:, None] / 2


class DeviceAugment(nn.Module):
    """Augment a batch of stored crops on its device.

    `stain_gain` (0 to 0.9) and `stain_offset` (0 to 1) are half-widths of uniform draws per crop and channel, in
    optical density (0.05 light, 0.2 strong: Tellez et al., arXiv 1902.06543). `shift_px` (0 to 64) is in stored pixels.
    `erasing` is the share of crops that lose a box (`erase`). `scale` holds the lowest and highest factor of a crop's
    size (0.5 to 1, 1 to 2): the optics apply it (`scaled_paths`). Raises ValueError outside these ranges.
    """

    def __init__(
        self, stain_gain: float, stain_offset: float, shift_px: int, erasing: float, scale: list[float]
    ) -> None:
        super().__init__()
        _check(stain_gain, stain_offset, shift_px)
        if not 0 <= erasing <= 1:
            raise ValueError(f"augment.erasing must be in [0, 1], but got {erasing}")
        if len(scale) != 2 or not 0.5 <= scale[0] <= 1 <= scale[1] <= 2:
            raise ValueError(f"augment.scale must be [LOW, HIGH] with 0.5 <= LOW <= 1 <= HIGH <= 2, but got {scale}")
        self.erasing = erasing
        self.scale = scale
        self.stain_gain = stain_gain
        self.stain_offset = stain_offset
        self.shift_px = shift_px

    def forward(self, crops: UInt8[Tensor, "b side side 3"], keep_px: int) -> Float[Tensor, "b 3 keep_px keep_px"]:
        """The centre of each crop, augmented, in [0, 1]."""
        moved = turn_and_shift(crops, keep_px, self.shift_px)
        draws = torch.empty(2, len(crops), 3, device=crops.device).uniform_(-1, 1)
        stained = jitter_stain(moved, 1 + self.stain_gain * draws[0], self.stain_offset * draws[1])
        return erase(stained, self.erasing) if self.erasing else stained


def augmented_copy(
    augment: DeviceAugment, number: int, crops: UInt8[Tensor, "b side side 3"], keep_px: int, start: int
) -> Float[Tensor, "b 3 keep_px keep_px"]:
    """Copy `number` of crops on the CPU; its draws depend on `number` and on `start`, the first crop's index, alone.

    The state of torch's own generators does not change.
    """
    seed = int.from_bytes(hashlib.sha256(f"{number} {start}".encode()).digest()[:4], "little")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the generators of GPUs too
        return augment(crops, keep_px)


class AlbumentationsAugment:
    """The flips, turns, shifts and stain jitter of `DeviceAugment` on the CPU, crop by crop, with the same errors."""

    def __init__(self, stain_gain: float, stain_offset: float, shift_px: int) -> None:
        _check(stain_gain, stain_offset, shift_px)
        self.stain_gain = stain_gain
        self.stain_offset = stain_offset
        self.shift_px = shift_px
        import albumentations as alb  # takes half a second, and DeviceAugment does not need it

        shift_all = alb.Affine(
            translate_px=(-shift_px, shift_px), border_mode=4, p=1.0
        )  # 4: OpenCV's BORDER_REFLECT_101
        self.turns = alb.Compose([alb.D4(p=1.0), shift_all])

    def __call__(self, crops: UInt8[np.ndarray, "b h w 3"], seed: int) -> UInt8[np.ndarray, "b h w 3"]:
        """Augmented crops; the draws depend on `seed` alone, not on the worker that loads the batch."""
        self.turns.set_random_seed(seed)
        turned = np.stack([self.turns(image=crop)["image"] for crop in crops])
        draws = torch.empty(2, len(crops), 3).uniform_(-1, 1, generator=torch.Generator().manual_seed(seed))
        x = jitter_stain(torch.from_numpy(turned), 1 + self.stain_gain * draws[0], self.stain_offset * draws[1])
        return (x.permute(0, 2, 3, 1) * 255).round().byte().numpy()


def _check(stain_gain: float, stain_offset: float, shift_px: int) -> None:
    """Raise ValueError if a setting is out of range."""
    limits = (("stain_gain", stain_gain, 0.9), ("stain_offset", stain_offset, 1), ("shift_px", shift_px, 64))
    for name, value, highest in limits:
        if not 0 <= value <= highest:
            raise ValueError(f"augment.{name} must be in [0, {highest}], but got {value}")
