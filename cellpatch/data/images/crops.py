"""Cut cells' crops out of images, on several processes; imports little, since each process does so again."""

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from cellpatch.data.images.readers import SlideReader, open_slide

Border = Literal["drop", "reflect"]
open_slide_cached = lru_cache(maxsize=1)(
    open_slide
)  # an image's chunks of points come one after the other: open it once


@dataclass(frozen=True)
class ImageFolder:
    """Images below a folder; `um_per_px` is their scale (None: from each file; a mapping: by first-level folder)."""

    root: Path
    um_per_px: float | dict[str, float] | None

    def open(self, image: str) -> tuple[SlideReader, float]:
        """An image and its scale in micrometres per pixel; raises ValueError if it is unreadable or has no scale."""
        file = self.root / image
        slide = open_slide_cached(file)
        stated = self.um_per_px
        if isinstance(stated, dict):
            top = file.relative_to(self.root).parts[0]
            if top not in stated:
                raise ValueError(f"{file}: data.image_um_per_px has no entry for {top!r}, only {list(stated)}")
            stated = stated[top]
        um_per_px = stated or slide.um_per_px
        if um_per_px is None:
            raise ValueError(f"{file}: does not state its scale; set data.image_um_per_px")
        return slide, um_per_px


@dataclass(frozen=True)
class CropSpec:
    """What all crops of a store share: side with margin, scale, whether images are resampled to it, border."""

    side_px: int
    um_per_px: float
    resampled: bool
    border: Border


@dataclass(frozen=True)
class CutCrops:
    """Size of an image, indices of the points that have a crop, and their crops."""

    width: int
    height: int
    kept: list[int]
    crops: UInt8[np.ndarray, "n side side 3"]


def cut_points(
    images: ImageFolder, spec: CropSpec, task: tuple[str, Float[np.ndarray, " n"], Float[np.ndarray, " n"]]
) -> CutCrops | str:
    """Crops of the points (image, x, y), or the reason why there are none."""
    image, xs, ys = task
    try:
        slide, scale = images.open(image)
        ratio = spec.um_per_px / scale
        if not spec.resampled and abs(ratio - 1) > 0.01:
            return f"{image}: has another scale than the first image; set data.um_per_px for all"
        crops = [cut(slide, x, y, spec.side_px, ratio, spec.border) for x, y in zip(xs, ys, strict=True)]
    except ValueError as error:
        return str(error)
    kept = [i for i, crop in enumerate(crops) if crop is not None]
    return CutCrops(slide.width, slide.height, kept, np.array([crops[i] for i in kept], np.uint8))


def cut(
    slide: SlideReader, x: float, y: float, side_px: int, scale: float, border: Border
) -> UInt8[np.ndarray, "side side 3"] | None:
    """The crop with its margin, `side_px` stored pixels wide, centred on (x, y); None if it leaves the image.

    x and y are image pixels, `scale` is image pixels per stored pixel. Within a thousandth of 1 the pixels are copied,
    else they are resampled with an antialiased bilinear filter. With `border` "reflect", missing pixels are filled by
    reflection. A crop that touches transparent pixels is always None.
    """
    scale = 1.0 if abs(scale - 1) < 1e-3 else scale
    side = side_px * scale
    left, top = x + 0.5 - side / 2, y + 0.5 - side / 2  # pixel i covers [i, i + 1)
    if scale == 1:
        left, top = math.floor(left), math.floor(top)
    x0, y0 = math.floor(left), math.floor(top)
    x1, y1 = math.ceil(left + side), math.ceil(top + side)
    outside = x0 < 0 or y0 < 0 or x1 > slide.width or y1 > slide.height
    if outside and border == "drop":
        return None
    if outside:
        region = _reflected_region(slide, np.arange(x0, x1), np.arange(y0, y1))
    else:
        region = _opaque_region(slide, x0, y0, x1 - x0, y1 - y0)
    if region is None:
        return None
    if scale == 1:
        return region
    box = (left - x0, top - y0, left - x0 + side, top - y0 + side)
    return np.asarray(Image.fromarray(region).resize((side_px, side_px), Image.Resampling.BILINEAR, box=box))


def _opaque_region(slide: SlideReader, x: int, y: int, width: int, height: int) -> UInt8[np.ndarray, "h w 3"] | None:
    """A region of a slide, or None if any of its pixels is transparent."""
    return slide.region(x, y, width, height) if slide.opaque(x, y, width, height) else None


def _reflected_region(
    slide: SlideReader, columns: Int[np.ndarray, " w"], rows: Int[np.ndarray, " h"]
) -> UInt8[np.ndarray, "h w 3"] | None:
    """Pixels at columns and rows partly beyond the image, filled by reflection; None if any is transparent."""
    rows, columns = _reflect(rows, slide.height), _reflect(columns, slide.width)
    x, y = int(columns.min()), int(rows.min())
    region = _opaque_region(slide, x, y, int(columns.max()) - x + 1, int(rows.max()) - y + 1)
    return None if region is None else region[np.ix_(rows - y, columns - x)]


def _reflect(positions: Int[np.ndarray, " n"], size: int) -> Int[np.ndarray, " n"]:
    """Reflect pixel positions at the first and last pixel of an axis of `size` pixels."""
    period = max(1, 2 * (size - 1))
    positions = np.abs(positions) % period
    return np.where(positions >= size, period - positions, positions)
