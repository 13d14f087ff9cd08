"""The cells to classify: crops on disk, or points in images by a table or an annotation file."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from cellpatch.data.annotations import asap, coco, geojson, labelme
from cellpatch.data.annotations.files import ImageIndex, annotated_names, read_json
from cellpatch.data.annotations.shapes import Shape
from cellpatch.data.images.pixels import SLIDE_SUFFIXES, SUFFIXES
from cellpatch.data.paths import resolve_inside
from cellpatch.data.sources.folder import images_below
from cellpatch.data.store.intake import Intake
from cellpatch.data.tables import check_coordinates, check_filled, read_table

TABLES = {".csv", ".tsv", ".txt", ".parquet"}
_POINT = ["image", "x", "y"]
REGION, OTHER = "a region, no cell", "no point or polygon"


@dataclass(frozen=True, eq=False)
class NewCells:
    """Cells in the order of their source.

    `table` has the user's columns, `names` what the user called those that were renamed. `files` is each cell's image,
    `where` its file and row. `xy` are pixels of the image, None for crops. `left_out` gives rows that are no cells
    their reason. `features` are those of a GeoJSON source, `feature` is each row's index among them.
    """

    table: pd.DataFrame
    files: list[Path]
    where: list[str]
    xy: Float[np.ndarray, "n 2"] | None = None
    left_out: dict[int, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    index: pd.Index | None = None
    document: Any = None
    feature: list[int] | None = None
    from_slide_corner: bool = False

    def __len__(self) -> int:
        return len(self.files)


def list_cells(source: Path, image: Path | None = None, pixel_shift: float = 0.0) -> NewCells:
    """The cells of an image, a folder of images, a table or an annotation file (GeoJSON, LabelMe, ASAP).

    `image` is the slide of an annotation file, or of a table without the column `image`. `pixel_shift` is added to a
    table's x and y. Raises ValueError if there is no cell, or if `source` is something else.
    """
    suffix = source.name.lower().removesuffix(".gz").rpartition(".")[2]
    if source.is_dir():
        if image is not None:
            raise ValueError(f"{source} is a folder of crops: --slide is for points")
        files = images_below(source, Intake())
        if not files:
            raise ValueError(f"{source}: holds no image; known are {', '.join(sorted(SUFFIXES))}")
        return _crops([(file, file.relative_to(source).as_posix()) for file in files])
    if source.is_file() and suffix in ("geojson", "json", "xml"):
        return _annotated(source, image)
    if source.suffix.lower() in TABLES:
        return _listed(source, image, pixel_shift)
    if source.is_file() and source.suffix.lower() in SUFFIXES:
        return _crops([(source, source.name)])
    hint = "; a slide needs points: give the annotation file, and --slide" if _is_slide(source) else ""
    kinds = (
        f"an image, a folder of images, a table ({', '.join(sorted(TABLES))}), GeoJSON, LabelMe's JSON or ASAP's XML"
    )
    raise ValueError(f"{source}: must be {kinds}{hint}")


def _is_slide(source: Path) -> bool:
    return source.suffix.lower() in SLIDE_SUFFIXES


def _crops(files: Sequence[tuple[Path, str]]) -> NewCells:
    names = [name for _, name in files]
    return NewCells(pd.DataFrame({"path": names}), [file for file, _ in files], names)


def _listed(source: Path, image: Path | None, pixel_shift: float) -> NewCells:
    """The cells of a table, which names crops in `path`, or points in `image`, `x` and `y`."""
    table = read_table(source, [])
    names = table.attrs.pop("names", {})
    where = list(table["where"])
    of_points = {"x", "y"} <= set(table.columns) and (image is not None or "image" in table)
    column = "image" if of_points else "path"
    if not of_points and "path" not in table:
        raise ValueError(f"{source}: needs a column path (crops) or {', '.join(_POINT)} (points in images)")
    check_filled(table, ["x", "y"] if of_points and image is not None else _POINT if of_points else ["path"])
    if of_points and image is not None:
        files = [image] * len(table)
    else:
        stated = [str(name).replace("\\", "/") for name in table[column]]
        files = [resolve_inside(source.parent, name, row) for name, row in zip(stated, where, strict=True)]
    xy = None
    if of_points:
        xy = check_coordinates(table[["x", "y", "where"]].copy(), pixel_shift)[["x", "y"]].to_numpy(float)
    index = None
    if source.suffix.lower() == ".parquet":
        index = pd.read_parquet(source, columns=[]).index
        index = index if len(index) == len(table) else None
    return NewCells(table.drop(columns="where"), files, where, xy, names=names, index=index)


def _annotated(source: Path, image: Path | None) -> NewCells:
    """The cells of an annotation file of one image; regions and other objects are left out with their reason."""
    name = source.name
    document: Any = None
    if name.lower().endswith(".xml"):
        shapes = asap.read_shapes(source, name, Intake())
    else:
        document = read_json(source)
        if coco.is_coco(document):
            raise ValueError(f"{source}: is a COCO file; predict takes GeoJSON, or a table of points")
        if labelme.is_labelme(document):
            shapes, document = labelme.read_shapes(document, name, Intake()), None
        else:
            return _features(source, document, image)
    file = image or ImageIndex(source.parent).named(source, annotated_names(source))
    return _points_of(shapes, file, name.lower().endswith(".xml"))


def _points_of(shapes: list[Shape], file: Path, from_slide_corner: bool) -> NewCells:
    if not shapes:
        raise ValueError("there is no point or polygon to classify")
    table = pd.DataFrame({"image": file.name, "x": [s.x for s in shapes], "y": [s.y for s in shapes]})
    return NewCells(
        table,
        [file] * len(shapes),
        [shape.where for shape in shapes],
        table[["x", "y"]].to_numpy(float),
        from_slide_corner=from_slide_corner,
    )


def _features(source: Path, document: Any, image: Path | None) -> NewCells:
    """One row an object of a GeoJSON file, and one a feature that is no cell."""
    file = image or ImageIndex(source.parent).named(source, annotated_names(source))
    features = geojson.features_of(document, source.name)
    objects = [geojson.shapes_of(feature, f"{source.name}, row {i}") for i, feature in enumerate(features, 1)]
    certain = any(shape.is_region is False for shapes in objects for shape in shapes)
    rows: list[tuple[float, float, str, int]] = []
    left_out: dict[int, str] = {}
    for number, shapes in enumerate(objects):
        where = f"{source.name}, row {number + 1}"
        if not shapes:
            left_out[len(rows)] = OTHER
            rows.append((np.nan, np.nan, where, number))
        for shape in shapes:
            if shape.is_region or (shape.is_region is None and certain):
                left_out[len(rows)] = REGION
            rows.append((shape.x, shape.y, shape.where, number))
    if len(left_out) == len(rows):
        raise ValueError(f"{source}: holds no point, detection or cell to classify among {len(rows)} objects")
    table = pd.DataFrame({"image": file.name, "x": [row[0] for row in rows], "y": [row[1] for row in rows]})
    ids = [features[row[3]].get("id") for row in rows]
    if any(each is not None for each in ids):
        table.insert(0, "id", ids)
    xy = table[["x", "y"]].to_numpy(float)
    feature = [row[3] for row in rows]
    return NewCells(
        table, [file] * len(rows), [row[2] for row in rows], xy, left_out, document=document, feature=feature
    )
