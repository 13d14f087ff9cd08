"""Cut a cell's crop out of an image."""

import math
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cellpatch.data.images import Plane
from cellpatch.data.store import Geometry

Border = Literal["drop", "reflect"]


def cut(
    plane: Plane, x: float, y: float, geometry: Geometry, scale: float, border: Border
) -> UInt8[np.ndarray, "side side 3"] | None:
    """The crop with its margin, centred on (x, y) in image pixels; None if it leaves the image.

    `scale` is image pixels per stored pixel: at 1 the pixels are copied, else they are resampled with an
    antialiased bilinear filter. `border` "reflect" mirrors the image instead of giving None; transparent
    pixels are outside the image and always give None.
    """
    side = geometry.side_px * scale
    left, top = x + 0.5 - side / 2, y + 0.5 - side / 2  # pixel i covers [i, i + 1)
    if scale == 1:
        left, top = math.floor(left), math.floor(top)
    x0, y0 = math.floor(left), math.floor(top)
    width, height = math.ceil(left + side) - x0, math.ceil(top + side) - y0
    inside_x0, inside_y0 = max(x0, 0), max(y0, 0)
    inside_w = min(x0 + width, plane.width) - inside_x0
    inside_h = min(y0 + height, plane.height) - inside_y0
    leaves = (inside_w, inside_h) != (width, height)
    if (leaves and border == "drop") or not plane.opaque(inside_x0, inside_y0, inside_w, inside_h):
        return None
    region = plane.region(inside_x0, inside_y0, inside_w, inside_h)
    if leaves:
        before = (inside_y0 - y0, inside_x0 - x0)
        after = (height - inside_h - before[0], width - inside_w - before[1])
        region = np.pad(region, ((before[0], after[0]), (before[1], after[1]), (0, 0)), mode="reflect")
    if scale == 1:
        return region
    box = (left - x0, top - y0, left - x0 + side, top - y0 + side)
    target = (geometry.side_px, geometry.side_px)
    return np.asarray(Image.fromarray(region).resize(target, Image.Resampling.BILINEAR, box=box))
