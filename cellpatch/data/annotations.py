"""Point annotations in the layouts that people have, as one table: image, x, y, class, cell_id, where."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from cellpatch.data.images import SLIDE_SUFFIXES, SUFFIXES
from cellpatch.data.tables import check_coordinates, check_filled, read_table

_COLUMNS = ["image", "x", "y", "class"]


def read_annotations(root: Path, points: str, layout: str) -> pd.DataFrame:
    """Read points in image pixels; images are named relative to `root`.

    Layouts: `table` (CSV, TSV or Parquet: image, x, y, class, optional specimen and cell_id), `endonuke`
    (`*/images/NAME.png` with `*/labels/NAME.txt`, lines `x y class`), `viewer` (tab-separated Shift-JIS
    without header: X, Y, CELLTYPE, PROB, COLOR, DR; the image lies beside it), `geojson` (QuPath features,
    image of the same name beside it), `auto` (geojson or table by the file's ending). `points` is a file, or
    a glob below `root` where a layout has one file an image.
    """
    if layout == "auto":
        layout = "geojson" if points.lower().endswith((".geojson", ".json")) else "table"
    if layout not in _LAYOUTS:
        raise ValueError(f"data.layout must be one of {['auto', *_LAYOUTS]}, but got {layout!r}")
    table = _LAYOUTS[layout](root, points)
    check_filled(table, _COLUMNS)
    table = check_coordinates(table)
    for name in ("image", "class"):
        table[name] = table[name].astype(str)
    if "cell_id" not in table:
        table["cell_id"] = [where.replace(", row ", "#") for where in table["where"]]
    return table


def _below(root: Path, file: Path) -> str:
    return file.relative_to(root).as_posix()


def _files(root: Path, points: str) -> list[Path]:
    """The annotation files: one path, or a glob below root."""
    if Path(points).is_file():
        return [Path(points)]
    found = sorted(root.glob(points)) if not Path(points).is_absolute() else []
    if not found:
        raise ValueError(f"data.points: no file {points}, neither as it stands nor below {root}")
    return found


def _read_table(root: Path, points: str) -> pd.DataFrame:
    return pd.concat([read_table(file, _COLUMNS) for file in _files(root, points)], ignore_index=True)


def _read_endonuke(root: Path, points: str) -> pd.DataFrame:
    rows = []
    for file in _files(root, points):
        image = file.parent.parent / "images" / f"{file.stem}.png"
        for number, line in enumerate(file.read_text().splitlines(), 1):
            where = f"{_below(root, file)}, row {number}"
            fields = line.split()
            if len(fields) != 3:
                raise ValueError(f"{where}: must be 'x y class', but got {line!r}")
            rows.append((_below(root, image), *fields, where))
    return pd.DataFrame(rows, columns=[*_COLUMNS, "where"])


def _read_viewer(root: Path, points: str) -> pd.DataFrame:
    tables = []
    names = ["x", "y", "class", "prob", "color", "dr"]
    for file in _files(root, points):
        try:
            table = pd.read_csv(
                file, sep="\t", header=None, names=names, encoding="cp932", dtype=str, keep_default_na=False
            )
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
            raise ValueError(f"{file}: is no tab-separated Shift-JIS table of {names} ({error})") from error
        table["image"] = _below(root, _image_beside(file))
        table["where"] = [f"{_below(root, file)}, row {row}" for row in range(1, len(table) + 1)]
        tables.append(table[[*_COLUMNS, "where"]])
    return pd.concat(tables, ignore_index=True)


def _read_geojson(root: Path, points: str) -> pd.DataFrame:
    rows = []
    for file in _files(root, points):
        image = _below(root, _image_beside(file))
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{file}: is not readable as JSON ({error})") from error
        features = document.get("features", []) if isinstance(document, dict) else document
        for number, feature in enumerate(features, 1):
            where = f"{_below(root, file)}, row {number}"
            classification = (feature.get("properties") or {}).get("classification") or {}
            name = classification.get("name", "")
            for part, (x, y) in enumerate(centres(feature.get("geometry") or {}, where)):
                rows.append((image, x - 0.5, y - 0.5, name, f"{where}" + (f".{part}" if part else "")))
    if not rows:
        raise ValueError(f"data.points: {points} holds no features")
    return pd.DataFrame(rows, columns=[*_COLUMNS, "where"])


def centres(geometry: dict[str, Any], where: str) -> Iterator[tuple[float, float]]:
    """Points of a GeoJSON geometry, or its polygons' centroids, in QuPath's pixel-edge coordinates."""
    kind = geometry.get("type")
    coordinates: Any = geometry.get("coordinates")
    try:
        if kind == "Point":
            yield (coordinates[0], coordinates[1])
        elif kind == "MultiPoint":
            yield from ((x, y) for x, y, *_ in coordinates)
        elif kind == "Polygon":
            yield centroid(coordinates[0])
        elif kind == "MultiPolygon":  # one object in pieces: its largest piece stands for it
            yield centroid(max((polygon[0] for polygon in coordinates), key=lambda ring: abs(_shoelace(ring))))
        else:
            raise ValueError(f"{where}: geometry must be Point, MultiPoint, Polygon or MultiPolygon, but got {kind}")
    except (TypeError, IndexError, KeyError) as error:
        raise ValueError(f"{where}: malformed {kind} coordinates") from error


def _shoelace(ring: list[list[float]]) -> float:
    return sum(x0 * y1 - x1 * y0 for (x0, y0, *_), (x1, y1, *_) in _edges(ring)) / 2


def _edges(ring: list[list[float]]) -> Iterator[tuple[list[float], list[float]]]:
    yield from zip(ring, ring[1:] + ring[:1], strict=True)


def centroid(ring: list[list[float]]) -> tuple[float, float]:
    """Area-weighted centroid of a polygon's outer ring (shoelace formula); the mean of its corners if flat."""
    area = _shoelace(ring)
    if abs(area) < 1e-9:
        return sum(p[0] for p in ring) / len(ring), sum(p[1] for p in ring) / len(ring)
    ox, oy = ring[0][0], ring[0][1]  # relative to a corner: whole-slide coordinates would cancel badly
    x = y = 0.0
    for (x0, y0, *_), (x1, y1, *_) in _edges(ring):
        cross = (x0 - ox) * (y1 - oy) - (x1 - ox) * (y0 - oy)
        x += (x0 + x1 - 2 * ox) * cross
        y += (y0 + y1 - 2 * oy) * cross
    return ox + x / (6 * area), oy + y / (6 * area)


def _image_beside(file: Path) -> Path:
    """The image of an annotation file: the one of its name, else the only one in its folder."""
    known = SUFFIXES | SLIDE_SUFFIXES
    beside = sorted(f for f in file.parent.iterdir() if f.suffix.lower() in known)
    named = [f for f in beside if f.name.split(".")[0] == file.name.split(".")[0]]
    if len(named) == 1:
        return named[0]
    if len(beside) == 1:
        return beside[0]
    raise ValueError(f"{file}: needs one image of its name, or one only, in its folder; found {len(beside)}")


_LAYOUTS: dict[str, Callable[[Path, str], pd.DataFrame]] = {
    "table": _read_table,
    "endonuke": _read_endonuke,
    "viewer": _read_viewer,
    "geojson": _read_geojson,
}
