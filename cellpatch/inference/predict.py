"""Classify new cells with a stored run.

    python -m cellpatch.predict RUN SOURCE [--out predictions.csv] [--weights FILE] [--um-per-px S] [--border reflect]

SOURCE is an image, a folder (every image below it) or a table (CSV, TSV or Parquet). A table with `image`, `x` and `y`
says where cells are in larger images or slides, and crops are cut there at the run's scale. Otherwise images are crops
as the run was trained on: of its side with its margin, at its scale; a table names them in its column `path`. Paths of
a table lie below its folder.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import UInt8

from cellpatch.data.images.crops import Border, cut
from cellpatch.data.images.decoding import decode
from cellpatch.data.images.readers import SUFFIXES, open_slide
from cellpatch.data.sources.folder import images_below
from cellpatch.data.sources.source import resolve_inside
from cellpatch.data.sources.table_checks import check_coordinates, check_filled, collect_points_outside, read_table
from cellpatch.data.store.reader import Geometry
from cellpatch.inference.restore import geometry_of, restore
from cellpatch.models.network import Network
from cellpatch.runs.record import read_record
from cellpatch.runtime.device import inference_batch_size, inference_mode, resolve_device
from cellpatch.runtime.error_collector import ErrorCollector

_TABLES = {".csv", ".tsv", ".parquet"}
_POINT = ["image", "x", "y"]
Crops = Iterator[tuple[int, UInt8[np.ndarray, "side side 3"]]]  # each with its row in the table of cells


def predict(
    run: Path,
    source: Path,
    weights_file: Path | None = None,
    um_per_px: float | None = None,
    border: Border = "drop",
) -> pd.DataFrame:
    """One row a cell: where it is, most probable `class`, its `probability`, and `p_CLASS` of every class.

    For points, `um_per_px` is the images' scale where the files do not state it; a point whose crop leaves its image
    has no row, unless `border` is "reflect". Raises one ValueError that lists every image that cannot be read or has
    another side and every point outside its image, and for what `restore` refuses.
    """
    cells = list_cells(source)
    if "x" not in cells and (um_per_px is not None or border != "drop"):
        raise ValueError(f"{source} holds crops, cut already: a scale and a border are for points in images")
    network, record = restore(run, weights_file), read_record(run)
    geometry = geometry_of(record)
    device = resolve_device(record["config"]["trainer"] | {"accelerator": "auto"})
    network.to(device)
    problems = ErrorCollector()
    if "x" in cells:
        crops = _cut(cells, geometry, um_per_px, border, problems)
    else:
        crops = _read(cells, run.name, geometry, problems)
    places, parts = _classify(network, crops, problems, inference_batch_size(network.backbone.input_px, device))
    problems.raise_if_any()
    if not places:
        raise ValueError(f"{source}: every crop leaves its image; --border reflect mirrors the images")
    found = np.concatenate(parts)
    table = cells.drop(columns=["file", "where"]).iloc[places].reset_index(drop=True)
    table["class"] = np.array(record["classes"])[found.argmax(axis=1)]
    table["probability"] = found.max(axis=1)
    return table.assign(**{f"p_{name}": found[:, code] for code, name in enumerate(record["classes"])})


def _classify(network: Network, crops: Crops, problems: ErrorCollector, n: int) -> tuple[list[int], list[np.ndarray]]:
    """Rows and parts of their probabilities, `n` cells at a time; once there are problems, crops are only checked."""
    places: list[int] = []
    parts, chunk = [], []
    for place, crop in crops:
        if not problems.messages:
            places.append(place)
            chunk.append(crop)
        if len(chunk) == n:
            parts.append(probabilities_of(network, np.stack(chunk)))
            chunk = []
    if chunk and not problems.messages:
        parts.append(probabilities_of(network, np.stack(chunk)))
    return places, parts


def _read(cells: pd.DataFrame, run: str, geometry: Geometry, problems: ErrorCollector) -> Crops:
    for place, rgb in decode(list(zip(cells["file"], cells["where"], strict=True)), None, problems):
        if rgb.shape[0] == geometry.side_px:
            yield place, rgb
        else:
            problems.add(f"{cells['where'][place]}: is {rgb.shape[0]} px wide; {run} takes {_told(geometry)}")


def _cut(
    points: pd.DataFrame, geometry: Geometry, um_per_px: float | None, border: Border, problems: ErrorCollector
) -> Crops:
    if geometry.um_per_px is None:
        raise ValueError("the run's crops state no scale, so none can be cut from images: cut them as the run's were")
    for image, rows in points.groupby("image", sort=False):
        try:
            plane = open_slide(rows["file"].iloc[0])
            scale = um_per_px or plane.um_per_px
            if scale is None:
                raise ValueError(f"{image}: does not state its scale; give --um-per-px")
        except ValueError as error:
            problems.add(f"{rows['where'].iloc[0]}: {error}")
            continue
        collect_points_outside(rows, str(image), plane.width, plane.height, problems)
        for place, x, y in zip(rows.index, rows["x"], rows["y"], strict=True):
            if problems.messages:
                break
            crop = cut(plane, x, y, geometry.side_px, geometry.um_per_px / scale, border)
            if crop is not None:
                yield place, crop


@inference_mode()
def probabilities_of(network: Network, crops: UInt8[np.ndarray, "b side side 3"]) -> np.ndarray:
    """Probabilities [b, classes] of stored crops, float32."""
    device = next(network.parameters()).device
    return network(torch.from_numpy(crops).to(device)).softmax(dim=1).cpu().numpy()


def list_cells(source: Path) -> pd.DataFrame:
    """One row a cell: what the output calls it, `file`, and `where` for messages.

    Raises ValueError if there is none, or if `source` is something else than the module takes.
    """
    if source.is_dir():
        files = images_below(source)
        if not files:
            raise ValueError(f"{source}: holds no image; known are {', '.join(sorted(SUFFIXES))}")
        return _named([(file, file.relative_to(source).as_posix()) for file in files])
    if source.suffix.lower() in _TABLES:
        return _tabled(source)
    if source.is_file() and source.suffix.lower() in SUFFIXES:
        return _named([(source, source.name)])
    raise ValueError(f"{source}: must be an image, a folder of images, or a table ({', '.join(sorted(_TABLES))})")


def _named(files: Sequence[tuple[Path, str]]) -> pd.DataFrame:
    names = [name for _, name in files]
    return pd.DataFrame({"path": names, "file": [file for file, _ in files], "where": names})


def _tabled(source: Path) -> pd.DataFrame:
    table = read_table(source, [])
    columns = _POINT if set(_POINT) <= set(table.columns) else ["path"]
    if not set(columns) <= set(table.columns):
        raise ValueError(f"{source}: needs a column path (crops) or {', '.join(_POINT)} (points in images)")
    check_filled(table, columns)
    if columns == _POINT:
        table = check_coordinates(table)
    named = zip(table[columns[0]], table["where"], strict=True)
    files: list[Any] = [resolve_inside(source.parent, name, where) for name, where in named]
    table["file"] = files
    return table[[*({"cell_id"} & set(table.columns)), *columns, "file", "where"]]


def _told(geometry: Geometry) -> str:
    margin = f", a margin of {geometry.margin_px} px on each side included" if geometry.margin_px else ""
    scale = f", at {geometry.um_per_px:g} um/px" if geometry.um_per_px else ""
    return f"{geometry.side_px} px{margin}{scale}"
