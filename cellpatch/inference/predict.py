"""Classify new cells with a stored run.

A source is an image, a folder (every image below it) or a table (CSV, TSV or Parquet). A table with `image`, `x` and
`y` says where cells are in larger images or slides, and crops are cut there at the run's scale. Otherwise images are
crops as the run was trained on: of its side with its margin, at its scale; a table names them in its column `path`.
Paths of a table lie below its folder.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8

from cellpatch.data.images.crops import Border, cut
from cellpatch.data.images.decoding import decode
from cellpatch.data.images.readers import SUFFIXES, open_slide
from cellpatch.data.sources.folder import images_below
from cellpatch.data.sources.source import resolve_inside
from cellpatch.data.sources.table_checks import check_coordinates, check_filled, collect_points_outside, read_table
from cellpatch.data.store.reader import Geometry
from cellpatch.inference.restore import predict_probabilities, restore
from cellpatch.models.network import Network
from cellpatch.runtime.device import inference_batch_size, resolve_device
from cellpatch.runtime.error_collector import ErrorCollector

_TABLES = {".csv", ".tsv", ".parquet"}
_POINT = ["image", "x", "y"]
Crops = Iterator[tuple[int, UInt8[np.ndarray, "side side 3"]]]  # each with its row in the table of cells


@dataclass(frozen=True)
class PointOptions:
    """For points in images: their scale where the files do not state it, and what happens near the border."""

    um_per_px: float | None = None
    border: Border = "drop"

    def __post_init__(self) -> None:
        if self.um_per_px is not None and not 0 < self.um_per_px < float("inf"):
            raise ValueError(f"--um-per-px must be finite and > 0, but got {self.um_per_px}")


def predict(
    run: Path, source: Path, weights_file: Path | None = None, points: PointOptions | None = None
) -> pd.DataFrame:
    """One row a cell: where it is, most probable `class`, its `probability`, and `p_CLASS` of every class.

    A point whose crop leaves its image has no row, unless the border is "reflect". Raises one ValueError that lists
    every image that cannot be read or has another side and every point outside its image, and for what `restore`
    refuses.
    """
    cells = list_cells(source)
    points = points or PointOptions()
    if "x" not in cells and points != PointOptions():
        raise ValueError(f"{source} holds crops, cut already: a scale and a border are for points in images")
    restored = restore(run, weights_file)
    device = resolve_device("auto")
    network = restored.network.to(device)
    problems = ErrorCollector()
    if "x" in cells:
        crops = _cut_crops(cells, restored.geometry, points, problems)
    else:
        crops = _read_crops(cells, run.name, restored.geometry, problems)
    rows, parts = _classify(network, crops, problems, inference_batch_size(network.backbone.input_px, device))
    problems.raise_if_any()
    if not rows:
        raise ValueError(f"{source}: every crop leaves its image; --border reflect mirrors the images")
    probabilities = np.concatenate(parts)
    table = cells.drop(columns=["file", "where"]).iloc[rows].reset_index(drop=True)
    table["class"] = restored.classes[probabilities.argmax(axis=1)]
    table["probability"] = probabilities.max(axis=1)
    return table.assign(**{f"p_{name}": probabilities[:, code] for code, name in enumerate(restored.classes)})


def _classify(
    network: Network, crops: Crops, problems: ErrorCollector, batch_size: int
) -> tuple[list[int], list[Float[np.ndarray, "b classes"]]]:
    """Rows and their probabilities in parts; once there are problems, crops are only checked."""
    rows: list[int] = []
    parts, batch = [], []
    for row, crop in crops:
        if not problems.messages:
            rows.append(row)
            batch.append(crop)
        if len(batch) == batch_size:
            parts.append(predict_probabilities(network, np.stack(batch)))
            batch = []
    if batch and not problems.messages:
        parts.append(predict_probabilities(network, np.stack(batch)))
    return rows, parts


def _read_crops(cells: pd.DataFrame, run: str, geometry: Geometry, problems: ErrorCollector) -> Crops:
    for row, rgb in decode(list(zip(cells["file"], cells["where"], strict=True)), None, problems):
        if rgb.shape[0] == geometry.side_px:
            yield row, rgb
        else:
            problems.add(f"{cells['where'][row]}: is {rgb.shape[0]} px wide; {run} takes {_describe(geometry)}")


def _cut_crops(points: pd.DataFrame, geometry: Geometry, options: PointOptions, problems: ErrorCollector) -> Crops:
    if geometry.um_per_px is None:
        raise ValueError("the run's crops state no scale, so none can be cut from images: cut them as the run's were")
    for image, rows in points.groupby("image", sort=False):
        try:
            slide = open_slide(rows["file"].iloc[0])
            scale = options.um_per_px or slide.um_per_px
            if scale is None:
                raise ValueError(f"{image}: does not state its scale; give --um-per-px")
        except ValueError as error:
            problems.add(f"{rows['where'].iloc[0]}: {error}")
            continue
        collect_points_outside(rows, str(image), slide.width, slide.height, problems)
        for row, x, y in zip(rows.index, rows["x"], rows["y"], strict=True):
            if problems.messages:
                break
            crop = cut(slide, x, y, geometry.side_px, geometry.um_per_px / scale, options.border)
            if crop is not None:
                yield row, crop


def list_cells(source: Path) -> pd.DataFrame:
    """One row a cell: what the output calls it, `file`, and `where` for messages.

    Raises ValueError if there is none, or if `source` is something else than the module takes.
    """
    if source.is_dir():
        files = images_below(source)
        if not files:
            raise ValueError(f"{source}: holds no image; known are {', '.join(sorted(SUFFIXES))}")
        return _image_rows([(file, file.relative_to(source).as_posix()) for file in files])
    if source.suffix.lower() in _TABLES:
        return _table_rows(source)
    if source.is_file() and source.suffix.lower() in SUFFIXES:
        return _image_rows([(source, source.name)])
    raise ValueError(f"{source}: must be an image, a folder of images, or a table ({', '.join(sorted(_TABLES))})")


def _image_rows(files: Sequence[tuple[Path, str]]) -> pd.DataFrame:
    names = [name for _, name in files]
    return pd.DataFrame({"path": names, "file": [file for file, _ in files], "where": names})


def _table_rows(source: Path) -> pd.DataFrame:
    table = read_table(source, [])
    columns = _POINT if set(_POINT) <= set(table.columns) else ["path"]
    if not set(columns) <= set(table.columns):
        raise ValueError(f"{source}: needs a column path (crops) or {', '.join(_POINT)} (points in images)")
    check_filled(table, columns)
    if columns == _POINT:
        table = check_coordinates(table)
    named = zip(table[columns[0]], table["where"], strict=True)
    table["file"] = pd.Series([resolve_inside(source.parent, name, where) for name, where in named], dtype=object)
    return table[[*({"cell_id"} & set(table.columns)), *columns, "file", "where"]]


def _describe(geometry: Geometry) -> str:
    margin = f", a margin of {geometry.margin_px} px on each side included" if geometry.margin_px else ""
    scale = f", at {geometry.um_per_px:g} um/px" if geometry.um_per_px else ""
    return f"{geometry.side_px} px{margin}{scale}"
