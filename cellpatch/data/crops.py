"""Cut a cell's crop out of an image."""

import math
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Int, UInt8
from PIL import Image

from cellpatch.data.images import Plane
from cellpatch.data.problems import Problems
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
    target = (geometry.side_px, geometry.side_px)
    return np.asarray(Image.fromarray(region).resize(target, Image.Resampling.BILINEAR, box=box))


def note_outside(points: pd.DataFrame, image: str, width: int, height: int, problems: Problems) -> None:
    """Add each of the points (x, y, where) that is not on the image to `problems`."""
    outside = points[(points["x"] >= width) | (points["y"] >= height)]
    for where, x, y in zip(outside["where"], outside["x"], outside["y"], strict=True):
        problems.add(f"{where}: x={x} y={y} is outside {image} ({width}x{height} px)")


def _opaque_region(plane: Plane, x: int, y: int, width: int, height: int) -> UInt8[np.ndarray, "h w 3"] | None:
    return plane.region(x, y, width, height) if plane.opaque(x, y, width, height) else None


def _mirrored(
    plane: Plane, columns: Int[np.ndarray, " w"], rows: Int[np.ndarray, " h"]
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
