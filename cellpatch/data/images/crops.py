"""Cut cells' crops out of images, on several processes; imports little, since each process does so again."""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from cellpatch.data.images.pixels import PLAIN, ImageOptions
from cellpatch.data.images.readers import SlideReader, open_slide

Border = Literal["reflect_margin", "drop", "reflect"]
LEAVES, TRANSPARENT = "cells whose crop leaves the image", "cells whose crop touches transparent pixels"
_SAME_SCALE = 0.02  # by which a user's scale and a file's may differ
open_slide_cached = lru_cache(maxsize=1)(
    open_slide
)  # an image's chunks of points come one after the other: open it once


@dataclass(frozen=True)
class ImageFolder:
    """Images below a folder; `um_per_px` is their scale (None: from each file; a mapping: by first-level folder)."""

    root: Path
    um_per_px: float | dict[str, float] | None
    options: ImageOptions = PLAIN

    def open(self, image: str) -> tuple[SlideReader, float, list[str]]:
        """An image, its scale in micrometres per pixel, and what is doubtful about the two.

        Raises ValueError if it is unreadable, or neither the user nor the file gives a scale.
        """
        file = self.root / image
        slide = open_slide_cached(file, self.options)
        stated = self.um_per_px
        if isinstance(stated, dict):
            top = file.relative_to(self.root).parts[0]
            if top not in stated:
                raise ValueError(f"{file}: data.image_um_per_px has no entry for {top!r}, only {list(stated)}")
            stated = stated[top]
        um_per_px, notes = resolve_scale(slide, stated)
        if um_per_px is None:
            raise ValueError(
                f"{file}: does not state its scale; set data.image_um_per_px, micrometres per pixel such as 0.25"
            )
        return slide, um_per_px, [slide.note, *notes] if slide.note else notes


def resolve_scale(slide: SlideReader, stated: float | None) -> tuple[float | None, list[str]]:
    """The scale of an image, as the user or else the file states it, and a note where both differ."""
    if stated is None:
        return slide.stated_um_per_px(), []
    try:
        own = slide.stated_um_per_px()
    except ValueError:  # the user's scale is the remedy that its message names
        return stated, []
    if own is None or abs(stated / own - 1) <= _SAME_SCALE:
        return stated, []
    return stated, [f"images whose file states {own:.4g} um/px where {stated:.4g} was given"]


@dataclass(frozen=True)
class CropSpec:
    """What all crops of a store share: side of what a model sees, margin, scale, whether resampled, border.

    A cell has a crop only where it would have one of `widest_px`, too.
    """

    crop_px: int
    margin_px: int
    um_per_px: float
    resampled: bool
    border: Border
    widest_px: int = 0


@dataclass(frozen=True)
class CutCrops:
    """Size of an image, indices of the points that have a crop, their crops, and the reasons of the others by index.

    `mirrored_px` is how many pixels at a crop's border are mirrored, at most. `notes` are about the image.
    """

    width: int
    height: int
    um_per_px: float
    kept: list[int]
    crops: UInt8[np.ndarray, "n side side 3"]
    mirrored_px: list[int]
    reasons: dict[int, str]
    notes: list[str]


@dataclass(frozen=True)
class Crop:
    """A crop with its margin; at most `mirrored_px` pixels from a border on are mirrored, not of the image."""

    pixels: UInt8[np.ndarray, "side side 3"]
    mirrored_px: int


def cut_points(
    images: ImageFolder, spec: CropSpec, task: tuple[str, Float[np.ndarray, " n"], Float[np.ndarray, " n"]]
) -> CutCrops | str:
    """Crops of the points (image, x, y), or the reason why there are none."""
    image, xs, ys = task
    try:
        slide, scale, notes = images.open(image)
        ratio = spec.um_per_px / scale
        if not spec.resampled and abs(ratio - 1) > 0.01:
            return f"{image}: has {scale:.4g} um/px, the first image {spec.um_per_px:.4g}; set data.um_per_px for all"
        results = [cut(slide, x, y, spec, ratio) for x, y in zip(xs, ys, strict=True)]
    except ValueError as error:
        return str(error)
    crops = {i: result for i, result in enumerate(results) if isinstance(result, Crop)}
    side_px = spec.crop_px + 2 * spec.margin_px
    return CutCrops(
        slide.width,
        slide.height,
        scale,
        list(crops),
        np.array([crop.pixels for crop in crops.values()], np.uint8).reshape(-1, side_px, side_px, 3),
        [crop.mirrored_px for crop in crops.values()],
        {i: result for i, result in enumerate(results) if isinstance(result, str)},
        notes,
    )


def cut(slide: SlideReader, x: float, y: float, spec: CropSpec, scale: float) -> Crop | str:
    """The crop with its margin, centred on (x, y), or the reason why there is none.

    x and y are image pixels, where pixel i covers [i, i + 1); `scale` is image pixels per stored pixel. Within a
    thousandth of 1 the pixels are copied, from the nearest whole pixel (of two the even one, so that there is no bias),
    else they are resampled with an antialiased bilinear filter. Where the image ends, pixels are mirrored: of the
    margin with border "reflect_margin", of the crop too with "reflect", none with "drop".
    """
    if spec.widest_px > spec.crop_px:
        widest = cut(slide, x, y, replace(spec, crop_px=spec.widest_px), scale)
        if isinstance(widest, str):
            return widest
    scale = 1.0 if abs(scale - 1) < 1e-3 else scale
    side = (spec.crop_px + 2 * spec.margin_px) * scale
    left, top = x - side / 2, y - side / 2
    if scale == 1:
        left, top = float(round(left)), float(round(top))  # round is half to even
    beyond = max(0.0, -left, -top, left + side - slide.width, top + side - slide.height) / scale
    mirrored_px = math.ceil(beyond - 1e-6)
    allowed_px = {"drop": 0.0, "reflect_margin": spec.margin_px, "reflect": math.inf}[spec.border]
    if mirrored_px > allowed_px:
        return LEAVES
    x0, y0 = math.floor(left + 1e-6), math.floor(top + 1e-6)
    x1, y1 = math.ceil(left + side - 1e-6), math.ceil(top + side - 1e-6)
    if x0 < 0 or y0 < 0 or x1 > slide.width or y1 > slide.height:
        region = _reflected_region(slide, np.arange(x0, x1), np.arange(y0, y1))
    else:
        region = _opaque_region(slide, x0, y0, x1 - x0, y1 - y0)
    if region is None:
        return TRANSPARENT
    if scale == 1:
        return Crop(region, mirrored_px)
    x_start, y_start = max(0.0, left - x0), max(0.0, top - y0)
    box = (x_start, y_start, min(x_start + side, x1 - x0), min(y_start + side, y1 - y0))
    side_px = spec.crop_px + 2 * spec.margin_px
    resized = Image.fromarray(region).resize((side_px, side_px), Image.Resampling.BILINEAR, box=box)
    return Crop(np.asarray(resized), mirrored_px)


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
