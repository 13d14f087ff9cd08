"""Read point annotations of several layouts as one table: image, x, y, class, cell_id, where."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from cellpatch.data.images.readers import SLIDE_SUFFIXES, SUFFIXES
from cellpatch.data.sources.table_checks import check_coordinates, check_filled, read_table
from cellpatch.runtime.json_types import Json

_COLUMNS = ["image", "x", "y", "class"]


def read_annotations(root: Path, points: str, layout: str) -> pd.DataFrame:
    """Read points in image pixels; images are named relative to `root`.

    `points` is a file, or a glob below `root` where a layout has one file an image. The layouts:

    - `table`: CSV, TSV or Parquet with image, x, y, class, optional specimen and cell_id.
    - `endonuke`: `*/images/NAME.png` with `*/labels/NAME.txt`, lines `x y class`.
    - `viewer`: tab-separated Shift-JIS without header (X, Y, CELLTYPE, PROB, COLOR, DR), in the image's folder.
    - `geojson`: QuPath features, in the folder of the image with the same name.
    - `auto`: geojson or table by the file's suffix.

    Raises ValueError that names file and row on an unknown layout, a missing or malformed file, or a bad value.
    """
    if layout == "auto":
        layout = "geojson" if points.lower().endswith((".geojson", ".json")) else "table"
    if layout not in _LAYOUTS:
        raise ValueError(f"data.layout must be one of {['auto', *_LAYOUTS]}, but got {layout!r}")
    table = _LAYOUTS[layout](root, points)
    check_filled(table, [*_COLUMNS, *(name for name in ("specimen", "cell_id") if name in table)])
    table = check_coordinates(table)
    if "cell_id" not in table:
        table["cell_id"] = [where.replace(", row ", "#") for where in table["where"]]
    return table


def _below(root: Path, file: Path) -> str:
    """The file's path relative to root; raises ValueError if it is not below root."""
    if not file.is_relative_to(root):
        raise ValueError(f"{file}: must lie below data.root, {root}, beside its image")
    return file.relative_to(root).as_posix()


def _named(root: Path, file: Path) -> str:
    """How errors and cells name an annotation file: relative to root if it is below, else by its file name."""
    return _below(root, file) if file.is_relative_to(root) else file.name


def annotation_files(root: Path, points: str) -> list[Path]:
    """The annotation files: one path, or a glob below root; raises ValueError if there is none."""
    if Path(points).is_file():
        file, top = Path(os.path.abspath(points)), Path(os.path.abspath(root))  # noqa: PTH100 (links are kept)
        return [root / file.relative_to(top) if file.is_relative_to(top) else Path(points)]
    files = sorted(root.glob(points)) if not Path(points).is_absolute() else []
    if not files:
        raise ValueError(f"data.points: no file {points}, neither as it stands nor below {root}")
    return files


def _read_table(root: Path, points: str) -> pd.DataFrame:
    tables = [read_table(file, _COLUMNS, _named(root, file)) for file in annotation_files(root, points)]
    return pd.concat(tables, ignore_index=True)


def _read_endonuke(root: Path, points: str) -> pd.DataFrame:
    rows = []
    for file in annotation_files(root, points):
        image = _below(root, file.parent.parent / "images" / f"{file.stem}.png")
        name = _below(root, file)
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            where = f"{name}, row {number}"
            fields = line.split()
            if len(fields) != 3:
                raise ValueError(f"{where}: must be 'x y class', but got {line!r}")
            rows.append((image, *fields, where))
    return pd.DataFrame(rows, columns=[*_COLUMNS, "where"])


def _read_viewer(root: Path, points: str) -> pd.DataFrame:
    tables = []
    names = ["x", "y", "class", "prob", "color", "dr"]
    for file in annotation_files(root, points):
        try:
            table = pd.read_csv(
                file, sep="\t", header=None, names=names, encoding="cp932", dtype=str, keep_default_na=False
            )
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
            raise ValueError(f"{file}: is no tab-separated Shift-JIS table of {names} ({error})") from error
        table["image"] = _below(root, _only_image(file))
        name = _below(root, file)
        table["where"] = [f"{name}, row {row}" for row in range(1, len(table) + 1)]
        tables.append(table[[*_COLUMNS, "where"]])
    return pd.concat(tables, ignore_index=True)


def _read_geojson(root: Path, points: str) -> pd.DataFrame:
    rows = []
    for file in annotation_files(root, points):
        name = _below(root, file)
        image = _below(root, _image_of_name(file))
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{file}: is not readable as JSON ({error})") from error
        features = document.get("features", [document]) if isinstance(document, dict) else document
        for number, feature in enumerate(features, 1):
            where = f"{name}, row {number}"
            if not isinstance(feature, dict):
                raise ValueError(f"{where}: must be a GeoJSON feature, but got {feature!r}")
            for part, (x, y) in enumerate(centres(feature.get("geometry") or {}, where)):
                # QuPath counts from a pixel's edge, we from its centre; the first half pixel is pixel 0.
                point = (max(x - 0.5, min(x, 0.0)), max(y - 0.5, min(y, 0.0)))
                rows.append((image, *point, _class_of(feature), where + (f".{part}" if part else "")))
    if not rows:
        raise ValueError(f"data.points: {points} holds no features")
    return pd.DataFrame(rows, columns=[*_COLUMNS, "where"])


def _class_of(feature: Json) -> str:
    """The name of a QuPath classification: several names joined by ": ", "" if there is none."""
    properties: Any = feature.get("properties") or {}
    classification = properties.get("classification") or {}
    if isinstance(classification, str):
        return classification
    return classification.get("name") or ": ".join(classification.get("names", []))


def centres(geometry: Json, where: str) -> Iterator[tuple[float, float]]:
    """Points of a GeoJSON geometry, or its polygons' centroids, in QuPath's pixel-edge coordinates.

    Raises ValueError on another geometry or malformed coordinates.
    """
    kind = geometry.get("type")
    if kind not in ("Point", "MultiPoint", "Polygon", "MultiPolygon"):
        raise ValueError(f"{where}: geometry must be Point, MultiPoint, Polygon or MultiPolygon, but got {kind}")
    coordinates: Any = geometry.get("coordinates")
    try:
        if kind == "Point":
            yield (float(coordinates[0]), float(coordinates[1]))
        elif kind == "MultiPoint":
            yield from ((float(x), float(y)) for x, y, *_ in coordinates)
        elif kind == "Polygon":
            yield centroid(coordinates[0])
        else:  # MultiPolygon, an object in pieces: the largest one represents it
            yield centroid(max((polygon[0] for polygon in coordinates), key=lambda ring: abs(_shoelace(ring))))
    except (TypeError, ValueError, IndexError, KeyError, ZeroDivisionError) as error:
        raise ValueError(f"{where}: malformed {kind} coordinates") from error


def _shoelace(ring: list[list[float]]) -> float:
    """Signed area of a ring."""
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


def _images_beside(file: Path) -> list[Path]:
    suffixes = SUFFIXES | SLIDE_SUFFIXES
    return sorted(f for f in file.parent.iterdir() if f.suffix.lower() in suffixes)


def _only_image(file: Path) -> Path:
    images = _images_beside(file)
    if len(images) != 1:
        raise ValueError(f"{file}: needs exactly one image in its folder, but found {len(images)}")
    return images[0]


def _image_of_name(file: Path) -> Path:
    """The image with an annotation file's name: `a.geojson` belongs to `a.png`, `a.tif` or `a.ome.tif`."""
    stem = file.stem.removesuffix(".ome")
    images = [image for image in _images_beside(file) if image.stem.removesuffix(".ome") == stem]
    if len(images) != 1:
        raise ValueError(f"{file}: needs exactly one image named {stem}.* beside it, but found {len(images)}")
    return images[0]


_LAYOUTS: dict[str, Callable[[Path, str], pd.DataFrame]] = {
    "table": _read_table,
    "endonuke": _read_endonuke,
    "viewer": _read_viewer,
    "geojson": _read_geojson,
}
