"""Labels of the same cells by several annotators, from one table."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from cellpatch.data.class_names import clean_name, is_missing, join_names
from cellpatch.data.store.intake import Intake
from cellpatch.data.tables import check_coordinates, check_named, read_table
from cellpatch.runtime.error_collector import ErrorCollector

KEPT = ["cell_id", "path", "image", "x", "y", "x_um", "y_um", "specimen", "site", "split"]  # of a cell, where stated


@dataclass(frozen=True, eq=False)
class Ratings:
    """A row a cell, a column an annotator: the class as an index, -1 where the annotator has not labelled the cell.

    `cells` has what the table states of a cell; `groups` what is resampled: its specimen, else its image, else None.
    """

    annotators: tuple[str, ...]
    classes: tuple[str, ...]
    labels: Int[np.ndarray, "cells annotators"]
    cells: pd.DataFrame
    intake: Intake

    @property
    def groups(self) -> Int[np.ndarray, " cells"] | None:
        for name in ("specimen", "image"):
            if name in self.cells:
                return np.unique(self.cells[name].astype(str), return_inverse=True)[1]
        return None


def read_ratings(file: Path, within_um: float | None = None, um_per_px: float | None = None) -> Ratings:
    """Read a table with `annotator`, `class` and what names the cell: `cell_id` (or `cell`), else `path`.

    With `within_um` the points (`image`, and `x`, `y` or `x_um`, `y_um`) of annotators name the cell: they are of one
    cell if they are that near. `um_per_px` is the scale of x and y. Raises ValueError that names file and rows for
    anything else, fewer than two annotators, and a cell that an annotator has labelled twice.
    """
    table = read_table(file, ["annotator", "class"])
    check_named(table)
    table["annotator"] = [clean_name(name) for name in table["annotator"]]
    nameless = ErrorCollector()
    for where, name in zip(table["where"], table["annotator"], strict=True):
        if is_missing(name):
            nameless.add(f"{where}: the annotator is missing ({name!r})")
    nameless.raise_if_any()
    intake = Intake()
    table["class"] = join_names(list(table["class"]), intake)
    annotators = tuple(sorted(set(table["annotator"])))
    if len(annotators) < 2:
        raise ValueError(f"{file}: column annotator must name two annotators or more, but has {list(annotators)}")
    table = _matched(table, file, within_um, um_per_px) if within_um is not None else _named(table, file)
    _check_once(table)
    classes = tuple(sorted(set(table["class"])))
    labels = np.full((table["cell"].max() + 1, len(annotators)), -1)
    columns = table["annotator"].map({name: i for i, name in enumerate(annotators)})
    labels[table["cell"], columns] = table["class"].map({name: i for i, name in enumerate(classes)})
    cells = table.groupby("cell")[[name for name in KEPT if name in table]].first()
    return Ratings(annotators, classes, labels, cells, intake)


def _named(table: pd.DataFrame, file: Path) -> pd.DataFrame:
    """The table with `cell`: a number for each cell, by the name that rows give it."""
    if "cell_id" not in table and "cell" in table:
        table = table.rename(columns={"cell": "cell_id"})
    key = next((name for name in ("cell_id", "path") if name in table), None)
    if key is None:
        raise ValueError(
            f"{file}: must name the cells in a column cell_id or path, but has {list(table.columns.drop('where'))}; "
            "--within UM takes points (image, x, y) that are near to each other for one cell"
        )
    table[key] = table[key].astype(str)
    return table.assign(cell=table.groupby(key, sort=False).ngroup())


def _matched(table: pd.DataFrame, file: Path, within_um: float, um_per_px: float | None) -> pd.DataFrame:
    """The table with `cell` by place, a new `cell_id`, and the mean place of a cell's points."""
    in_um = "x_um" in table and "x" not in table
    place = ["x_um", "y_um"] if in_um else ["x", "y"]
    if missing := [name for name in ("image", *place) if name not in table]:
        raise ValueError(f"{file}: --within needs the columns image, x and y (or x_um, y_um), but {missing} is missing")
    if not 0 < within_um < np.inf or not (um_per_px is None or 0 < um_per_px < np.inf):
        raise ValueError(f"--within and --um-per-px must be > 0, but got {within_um} and {um_per_px}")
    if um_per_px is None and not in_um:
        raise ValueError(f"{file}: x and y are in pixels: --within needs --um-per-px, the scale of the images")
    table = check_coordinates(table, 0.0)
    within = within_um if in_um or um_per_px is None else within_um / um_per_px
    table["cell"], cells = -1, 0
    for _, rows in table.groupby("image", sort=True):
        found = match_points(rows[place].to_numpy(np.float64), pd.factorize(rows["annotator"])[0], within)
        table.loc[rows.index, "cell"] = found + cells
        cells += int(found.max()) + 1
    number = table["cell"] - table.groupby("image")["cell"].transform("min") + 1
    table["cell_id"] = [f"{image}#{n}" for image, n in zip(table["image"], number, strict=True)]
    table[place] = table.groupby("cell")[place].transform("mean").round(3)
    return table


def match_points(
    xy: Float[np.ndarray, "n 2"], annotators: Int[np.ndarray, " n"], within: float
) -> Int[np.ndarray, " n"]:
    """A number for each cell: points of different annotators are joined, the nearest first, if at most `within` apart.

    A cell has at most one point of an annotator. Numbers are in the order of the points.
    """
    from scipy.spatial import cKDTree  # half a second to import

    pairs = cKDTree(xy).query_pairs(within, output_type="ndarray")
    pairs = pairs[annotators[pairs[:, 0]] != annotators[pairs[:, 1]]]
    distance = np.linalg.norm(xy[pairs[:, 0]] - xy[pairs[:, 1]], axis=1)
    cell = np.arange(len(xy))
    members = {i: [i] for i in range(len(xy))}
    for one, two in pairs[np.lexsort((pairs[:, 1], pairs[:, 0], distance))]:
        first, second = sorted((cell[one], cell[two]))
        if first != second and not {*annotators[members[first]]} & {*annotators[members[second]]}:
            members[first] += members.pop(second)
            cell[members[first]] = first
    return np.unique(cell, return_inverse=True)[1]


def _check_once(table: pd.DataFrame) -> None:
    problems = ErrorCollector()
    twice = table.duplicated(["cell", "annotator"])
    first = table.drop_duplicates(["cell", "annotator"]).set_index(["cell", "annotator"])["where"]
    for row in table[twice].to_dict("records"):
        other = first[(row["cell"], row["annotator"])]
        problems.add(f"{row['where']}: {row['annotator']!r} has labelled this cell already, in {other}; keep one row")
    problems.raise_if_any()
