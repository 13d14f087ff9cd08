"""Cut cells' crops out of images, on several processes; imports little, as each of them does it anew."""

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
last_plane = lru_cache(maxsize=1)(open_slide)  # an image's chunks of points come one after the other


@dataclass(frozen=True)
class ImageFolder:
    """Images below a folder; `um_per_px` is their scale: None is what each file says, a mapping has one a folder."""

    root: Path
    um_per_px: float | dict[str, float] | None

    def open(self, image: str) -> tuple[SlideReader, float]:
        """An image and its scale in micrometres per pixel; raises ValueError if it cannot be read or has none."""
        file = self.root / image
        plane = last_plane(file)
        stated = self.um_per_px
        if isinstance(stated, dict):
            top = file.relative_to(self.root).parts[0]
            if top not in stated:
                raise ValueError(f"{file}: data.image_um_per_px has no entry for {top!r}, only {list(stated)}")
            stated = stated[top]
        um_per_px = stated or plane.um_per_px
        if um_per_px is None:
            raise ValueError(f"{file}: does not state its scale; set data.image_um_per_px")
        return plane, um_per_px


@dataclass(frozen=True)
class CropSpec:
    """What all crops of a store share: side with margin, scale (of all images, unless they are resampled), border."""

    side_px: int
    um_per_px: float
    resampled: bool
    border: Border


@dataclass(frozen=True)
class CutCrops:
    """Crops of some points of an image, and which of the points they are of."""

    width: int
    height: int
    kept: list[int]
    crops: UInt8[np.ndarray, "n side side 3"]


def cut_points(
    images: ImageFolder, how: CropSpec, task: tuple[str, Float[np.ndarray, " n"], Float[np.ndarray, " n"]]
) -> CutCrops | str:
    """Crops of the points (image, x, y), or why there are none."""
    image, *places = task
    try:
        plane, scale = images.open(image)
        ratio = how.um_per_px / scale
        if not how.resampled and abs(ratio - 1) > 0.01:
            return f"{image}: has another scale than the first image; set data.um_per_px for all"
        cuts = [cut(plane, x, y, how.side_px, ratio, how.border) for x, y in zip(*places, strict=True)]
    except ValueError as error:
        return str(error)
    kept = [i for i, crop in enumerate(cuts) if crop is not None]
    return CutCrops(plane.width, plane.height, kept, np.array([cuts[i] for i in kept], np.uint8))


def cut(
    plane: SlideReader, x: float, y: float, side_px: int, scale: float, border: Border
) -> UInt8[np.ndarray, "side side 3"] | None:
    """The crop with its margin, `side_px` stored pixels wide, centred on (x, y); None if it leaves the image.

    x, y are image pixels, `scale` image pixels per stored pixel: within a thousandth of 1 the pixels are copied, else
    they are resampled with an antialiased bilinear filter. `border` "reflect" mirrors the image instead of giving None;
    transparent pixels are outside the image and always give None.
    """
    scale = 1.0 if abs(scale - 1) < 1e-3 else scale
    side = side_px * scale
    left, top = x + 0.5 - side / 2, y + 0.5 - side / 2  # pixel i covers [i, i + 1)
    if scale == 1:
        left, top = math.floor(left), math.floor(top)
    x0, y0 = math.floor(left), math.floor(top)
    x1, y1 = math.ceil(left + side), math.ceil(top + side)
    leaves = x0 < 0 or y0 < 0 or x1 > plane.width or y1 > plane.height
    if leaves and border == "drop":
        return None
    if leaves:
        region = _mirrored(plane, np.arange(x0, x1), np.arange(y0, y1))
    else:
        region = _opaque_region(plane, x0, y0, x1 - x0, y1 - y0)
    if region is None:
        return None
    if scale == 1:
        return region
    box = (left - x0, top - y0, left - x0 + side, top - y0 + side)
    return np.asarray(Image.fromarray(region).resize((side_px, side_px), Image.Resampling.BILINEAR, box=box))


def _opaque_region(plane: SlideReader, x: int, y: int, width: int, height: int) -> UInt8[np.ndarray, "h w 3"] | None:
    return plane.region(x, y, width, height) if plane.opaque(x, y, width, height) else None


def _mirrored(
    plane: SlideReader, columns: Int[np.ndarray, " w"], rows: Int[np.ndarray, " h"]
) -> UInt8[np.ndarray, "h w 3"] | None:
    """Pixels at places of which some lie beyond the image, where it is mirrored; None if it is transparent there."""
    rows, columns = _reflect(rows, plane.height), _reflect(columns, plane.width)
    x, y = int(columns.min()), int(rows.min())
    region = _opaque_region(plane, x, y, int(columns.max()) - x + 1, int(rows.max()) - y + 1)
    return None if region is None else region[np.ix_(rows - y, columns - x)]


def _reflect(places: Int[np.ndarray, " n"], size: int) -> Int[np.ndarray, " n"]:
    """Mirror pixel places at the first and last pixel of an image of `size` pixels."""
    period = max(1, 2 * (size - 1))
    places = np.abs(places) % period
    return np.where(places >= size, period - places, places)
