"""Annotated objects before they are cells: a point or a polygon's centre, and whether it is a region."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from cellpatch.data.store.intake import Intake

Polygons = Literal["auto", "cells", "regions"]
MAX_CELL_UM = 30.0  # longer side of a polygon that is still a cell where a file does not say; our choice
_SHOWN = 200  # characters of a wrong value
MAX_PX = 1e9  # of a coordinate: no image is larger
_APART = 3.0  # pieces of one object lie nearer to each other than so many of their diameters


@dataclass(frozen=True)
class Shape:
    """One annotated object: its centre in pixels (pixel i covers [i, i + 1)), class and place in its file.

    `label` is None for an unclassified object. `side_px` is the longer side of a polygon's bounding box, None of a
    point. `is_region` is None where the format does not state whether a polygon is a cell or a region.
    """

    x: float
    y: float
    label: str | None
    where: str
    side_px: float | None = None
    is_region: bool | None = False
    cell_id: str | None = None


def flag_regions(
    sides_px: Sequence[float | None],
    stated: Sequence[bool | None],
    polygons: Polygons,
    um_per_px: Callable[[], float],
) -> list[bool]:
    """Which of one image's objects are regions, by `side_px` and `is_region` of their shapes.

    Where the format does not state it, `polygons` decides. `auto`: a region if the image also has detections, cells or
    points, or if it is larger than MAX_CELL_UM; `um_per_px` is asked for the scale only then.
    """
    if polygons == "auto" and None in stated and False not in stated:
        largest_px = MAX_CELL_UM / um_per_px()
    else:
        largest_px = math.inf if polygons == "cells" else -math.inf
    return [
        (side or 0.0) > largest_px if is_region is None else is_region
        for side, is_region in zip(sides_px, stated, strict=True)
    ]


def keep_cells(
    shapes: Sequence[Shape], polygons: Polygons, um_per_px: Callable[[], float], intake: Intake
) -> list[Shape]:
    """The classified cells among one image's objects, by `flag_regions`; the others are counted."""
    cells = []
    sides, stated = [shape.side_px for shape in shapes], [shape.is_region for shape in shapes]
    for shape, is_region in zip(shapes, flag_regions(sides, stated, polygons, um_per_px), strict=True):
        if is_region:
            intake.left_out["regions (data.polygons=cells makes them cells)"] += 1
        elif shape.label is None:
            intake.left_out["objects without a class"] += 1
        else:
            cells.append(shape)
    return cells


Ring = Float[np.ndarray, "_ 2"]


def as_ring(points: Any) -> Ring:
    """Corners [n, 2] of a polygon; raises ValueError if they are not a list of x, y: numbers within MAX_PX of 0."""
    found = np.array([list(point)[:2] for point in points])  # text stays text, and 10**30 an object
    if found.ndim != 2 or found.shape[1:] != (2,) or found.dtype.kind not in "iuf" or not len(found):
        raise ValueError("corners must be pairs of finite numbers")
    if not (np.abs(found.astype(np.float64)) <= MAX_PX).all():
        raise ValueError(f"corners must be finite numbers, at most {MAX_PX:g}")
    return found.astype(np.float64)


def shown(value: object) -> str:
    """A wrong value as an error shows it: its start."""
    try:
        return repr(value)[:_SHOWN]
    except RecursionError:
        return "something nested too deeply"


def signed_area(ring: Ring) -> float:
    """Area of a ring by the shoelace formula, relative to a corner: whole-slide coordinates would cancel badly."""
    x, y = (ring - ring[0]).T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def centroid(ring: Ring) -> tuple[float, float]:
    """Area-weighted centroid of a ring.

    The centre of its bounding box if the ring is flat, or crosses itself so that the centroid would lie outside it.
    """
    low, high = ring.min(axis=0), ring.max(axis=0)
    area = signed_area(ring)
    centre = (low + high) / 2
    if abs(area) > 1e-9:
        corners = ring - ring[0]
        following = np.roll(corners, -1, axis=0)
        cross = corners[:, 0] * following[:, 1] - following[:, 0] * corners[:, 1]
        weighted = ring[0] + ((corners + following) * cross[:, None]).sum(axis=0) / (6 * area)
        if (low <= weighted).all() and (weighted <= high).all():
            centre = weighted
    return float(centre[0]), float(centre[1])


def longer_side(ring: Ring) -> float:
    """Longer side of a ring's bounding box."""
    return float(np.ptp(ring, axis=0).max())


def is_one_object(rings: Sequence[Ring]) -> bool:
    """Whether polygons lie so near to each other that they are pieces of one object."""
    centres = np.array([centroid(ring) for ring in rings])
    size = max(longer_side(ring) for ring in rings)
    return bool(np.ptp(centres, axis=0).max() <= _APART * max(size, 1e-9))
