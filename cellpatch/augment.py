"""Training-time augmentation: flips, right-angle rotations, small shifts, stain jitter in optical density."""

from typing import Any

import albumentations as alb
import kornia.augmentation as kaug
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import pad


def jitter_stain(
    x: Float[Tensor, "b 3 h w"], gain: Float[Tensor, "b 3"], offset: Float[Tensor, "b 3"]
) -> Float[Tensor, "b 3 h w"]:
    """Scale and shift each channel's optical density, -log10 of transmission (Beer-Lambert).

    In transmission that is a power and a factor: 10^-(g d + o) = t^g 10^-o. Input and output in [0, 1].
    """
    return (x ** gain[..., None, None] * 10 ** -offset[..., None, None]).clamp(0, 1)


def shift(x: Float[Tensor, "b 3 h w"], max_px: int) -> Float[Tensor, "b 3 h w"]:
    """Move each crop by its own whole number of pixels in [-max_px, max_px]; the border is reflected."""
    if max_px == 0:
        return x
    b, _, h, w = x.shape
    padded = pad(x, (max_px,) * 4, mode="reflect")
    dy, dx = torch.randint(0, 2 * max_px + 1, (2, b, 1), device=x.device)
    rows = (dy + torch.arange(h, device=x.device))[:, None, :, None]
    columns = (dx + torch.arange(w, device=x.device))[:, None, None, :]
    index = torch.arange(b, device=x.device)[:, None, None, None]
    return padded[index, torch.arange(3, device=x.device)[None, :, None, None], rows, columns]


class KorniaAugment(nn.Module):
    """Augment a batch on its device; [b, 3, h, w] in [0, 1] keeps its shape and range.

    `stain_gain` and `stain_offset` are half-widths of uniform draws per crop and channel in optical
    density (0.05 light, 0.2 strong: Tellez et al., arXiv 1902.06543); `shift_px` is in stored pixels.
    """

    def __init__(self, stain_gain: float, stain_offset: float, shift_px: int) -> None:
        super().__init__()
        _check(stain_gain, stain_offset, shift_px)
        self.stain_gain = stain_gain
        self.stain_offset = stain_offset
        self.shift_px = shift_px
        self.turns = kaug.AugmentationSequential(
            kaug.RandomHorizontalFlip(p=0.5),
            kaug.RandomVerticalFlip(p=0.5),
            kaug.RandomRotation90((0, 1), p=1.0),
        )

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        x = self.turns(shift(x, self.shift_px))
        draws = torch.empty(2, len(x), 3, device=x.device).uniform_(-1, 1)
        return jitter_stain(x, 1 + self.stain_gain * draws[0], self.stain_offset * draws[1])


class AlbumentationsAugment:
    """The same intent on the CPU, crop by crop; uint8 [b, h, w, 3] keeps its shape."""

    def __init__(self, stain_gain: float, stain_offset: float, shift_px: int) -> None:
        _check(stain_gain, stain_offset, shift_px)
        self.stain_gain = stain_gain
        self.stain_offset = stain_offset
        shift_all = alb.Affine(
            translate_px=(-shift_px, shift_px), border_mode=4, p=1.0
        )  # 4: OpenCV's BORDER_REFLECT_101
        self.turns = alb.Compose([alb.D4(p=1.0), shift_all])

    def __call__(self, crops: UInt8[np.ndarray, "b h w 3"], seed: int) -> UInt8[np.ndarray, "b h w 3"]:
        """The draws are of `seed` alone, so that they do not depend on which worker loads the batch."""
        self.turns.set_random_seed(seed)
        turned = np.stack([self.turns(image=crop)["image"] for crop in crops])
        draws = torch.empty(2, len(crops), 3).uniform_(-1, 1, generator=torch.Generator().manual_seed(seed))
        x = torch.from_numpy(turned).permute(0, 3, 1, 2) / 255
        x = jitter_stain(x, 1 + self.stain_gain * draws[0], self.stain_offset * draws[1])
        return (x.permute(0, 2, 3, 1) * 255).round().byte().numpy()


def _check(stain_gain: float, stain_offset: float, shift_px: int) -> None:
    limits: dict[str, Any] = {
        "stain_gain": (stain_gain, 0.9),
        "stain_offset": (stain_offset, 1),
        "shift_px": (shift_px, 64),
    }
    for name, (value, highest) in limits.items():
        if not 0 <= value <= highest:
            raise ValueError(f"augment.{name} must be in [0, {highest}], but got {value}")
