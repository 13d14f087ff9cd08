"""A proposal as files: next.csv, and GeoJSON of the cells of each image."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cellpatch.data.annotations.geojson import features_of
from cellpatch.inference.choose_cells import entropies, margins
from cellpatch.inference.new_cells import NewCells
from cellpatch.inference.next_cells import Proposal
from cellpatch.inference.predicted_files import add_measurements
from cellpatch.runtime.atomic_io import temporary_directory
from cellpatch.runtime.json_types import Json
from cellpatch.runtime.spreadsheet import csv_text

TABLE = "next.csv"


def write_proposal(proposal: Proposal, folder: Path) -> list[Path]:
    """Write a new folder, whole or not at all; gives the paths of its files.

    Raises ValueError if it exists, or if two images would have one GeoJSON file.
    """
    if folder.exists():
        raise ValueError(f"--out {folder} exists: give each round a folder of its own")
    table = proposed_table(proposal)
    documents = {f"{Path(image).with_suffix('')}.geojson": text for image, text in _by_image(proposal, table).items()}
    if "image" in table and len(documents) < table["image"].nunique():
        raise ValueError("two images differ in their suffix alone, and both would have one GeoJSON file: rename one")
    with temporary_directory(folder.parent, folder.name) as temporary:
        whole = temporary / "whole"
        whole.mkdir()
        (whole / TABLE).write_text(csv_text(table), encoding="utf-8")
        for name, document in documents.items():
            (whole / name).parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1)
            (whole / name).write_text(text, encoding="utf-8")
        whole.rename(folder)
    return [folder / name for name in (TABLE, *documents)]


def proposed_table(proposal: Proposal) -> pd.DataFrame:
    """A row a cell: where it is, an empty `class` to fill in, `split` train, and what the network takes it for.

    Columns are those that a training reads: `image`, `x`, `y` of points, `path` of crops.
    """
    pool, rows = proposal.pool, proposal.rows
    picked = pool.table.iloc[rows]
    cells = [(pool.cells[source], row) for source, row in zip(picked["source"], picked["row"], strict=True)]
    of_points = [of.xy is not None for of, _ in cells]
    if any(of_points) and not all(of_points):
        raise ValueError("sources must all be crops, or all be points in images: give them in two commands")
    table = pd.DataFrame({"image" if of_points[0] else "path": picked["image"].to_numpy()})
    if of_points[0]:
        xy = np.array([of.xy[row] for of, row in cells if of.xy is not None])
        table["x"], table["y"] = xy.T
    ids = [_id_of(of.table, row) for of, row in cells]
    if all(ids):
        table["cell_id"] = ids
    table["specimen"] = picked["specimen"].to_numpy()
    table["split"], table["class"] = "train", ""
    p = proposal.probabilities.astype(np.float64)
    table["predicted"] = np.array(proposal.classes, object)[p.argmax(axis=1)]
    for name, values in (("probability", p.max(axis=1)), ("margin", margins(p)), ("entropy", entropies(p))):
        table[name] = values.round(4)
    return table


def _id_of(table: pd.DataFrame, row: int) -> str:
    name = next((name for name in ("cell_id", "id") if name in table), None)
    value = None if name is None else table[name].iloc[row]
    return "" if value is None or pd.isna(value) else str(value)


def _by_image(proposal: Proposal, table: pd.DataFrame) -> Mapping[str, Json]:
    """A collection of features without a class for each image, with their place in the choice; none for crops."""
    collections: dict[str, list[Any]] = {}
    if "image" not in table:
        return {}
    picked = proposal.pool.table.iloc[proposal.rows]
    features = {
        source: _features(proposal.pool.cells[source], set(picked["row"][picked["source"] == source]))
        for source in sorted(set(picked["source"]))
    }
    places = zip(table["image"], picked["source"], picked["row"], table["x"], table["y"], strict=True)
    for number, (image, source, row, x, y) in enumerate(places):
        feature = features[source].get(row) or {"type": "Feature", "geometry": {"type": "Point", "coordinates": [x, y]}}
        properties = {"objectType": "annotation"} | (feature.get("properties") or {})
        properties.pop("classification", None)
        values = {"next": number + 1, **_of_classes(proposal, number)}
        add_measurements(properties, values)
        collections.setdefault(image, []).append(feature | {"properties": properties})
    return {image: {"type": "FeatureCollection", "features": of_image} for image, of_image in collections.items()}


def _of_classes(proposal: Proposal, number: int) -> dict[str, float]:
    values = proposal.probabilities[number].tolist()
    return {f"p_{name}": value for name, value in zip(proposal.classes, values, strict=True)}


def _features(cells: NewCells, rows: set[int]) -> dict[int, Any]:
    """The source's feature of each of these rows, where it has one that is a single cell."""
    if cells.feature is None:
        return {}
    times = Counter(cells.feature)
    row_of = {number: row for row, number in enumerate(cells.feature) if times[number] == 1 and row in rows}
    found = enumerate(features_of(cells.document, "the source"))
    return {row_of[number]: feature for number, feature in found if number in row_of}
