"""Checks of points that need more than one of them: the same place twice, micrometres given as pixels."""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from cellpatch.data.store.intake import Contradictions, Intake
from cellpatch.runtime.error_collector import ErrorCollector

_DECIMALS = 3  # of a pixel: points that agree in them are at one place
NEAR_UM = 1.0  # no two cells' centres are nearer to each other; our choice
_ENOUGH = 20  # points of an image before their extent says something
MICROMETRES = (
    "cells of images whose points fit the image's size in micrometres: are they given in pixels? Micrometres belong in "
    "x_um and y_um"
)


def drop_contradictions(points: pd.DataFrame, contradictions: Contradictions, intake: Intake) -> pd.DataFrame:
    """The points but those of one place with two classes, where these are dropped; counts them.

    Raises one ValueError that names the rows where contradictions are rejected.
    """
    place = points[["image", "x", "y"]].round({"x": _DECIMALS, "y": _DECIMALS})
    group = place.groupby(["image", "x", "y"], sort=False).ngroup()
    first_class = points["class"].groupby(group).transform("first")
    bad = (points["class"] != first_class).groupby(group).transform("any")
    twice = group.duplicated() & ~bad
    if twice.any():
        intake.doubtful["cells at the place of another of their class"] += int(twice.sum())
    if not bad.any():
        return points
    if contradictions == "refuse":
        problems = ErrorCollector()
        first_row = points["where"].groupby(group).transform("first")
        for index in points.index[bad & (points["class"] != first_class)]:
            row = points.loc[index]
            problems.add(
                f"{row['where']}: class {row['class']!r} at x={row['x']:g} y={row['y']:g}, where {first_row[index]} "
                f"has {first_class[index]!r}; correct one, or set data.contradictions=drop or keep"
            )
        problems.raise_if_any()
    counts = intake.left_out if contradictions == "drop" else intake.doubtful
    counts["cells at one place with two classes"] += int(bad.sum())
    return points[~bad] if contradictions == "drop" else points


def count_near(xy: Float[np.ndarray, "n 2"], um_per_px: float, intake: Intake) -> None:
    """Count an image's places that lie nearer to another than cells do."""
    from scipy.spatial import cKDTree  # half a second to import, and only preparing a store asks

    places = np.unique(xy.round(_DECIMALS), axis=0)
    near = cKDTree(places).query_pairs(NEAR_UM / um_per_px, output_type="ndarray")
    if len(near):
        intake.doubtful[f"cells within {NEAR_UM:g} um of another"] += len(np.unique(near))


def looks_like_micrometres(xy: Float[np.ndarray, "n 2"], width: int, height: int, um_per_px: float) -> bool:
    """Whether an image's points end where the image would if its pixels were micrometres."""
    if len(xy) < _ENOUGH or um_per_px > 0.8:
        return False
    extent = np.array([width, height]) * um_per_px
    fits: Bool[np.ndarray, " 2"] = (xy.max(axis=0) <= extent) & (xy.max(axis=0) > 0.6 * extent)
    return bool(fits.all())
