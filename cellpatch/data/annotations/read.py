"""Read point annotations of several layouts as one table: image, x, y, class, cell_id, where."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from cellpatch.data.annotations import asap, coco, geojson, labelme
from cellpatch.data.annotations.files import ImageIndex, annotated_names, annotation_files, read_json, shown_name
from cellpatch.data.annotations.shapes import Polygons, Shape, keep_cells
from cellpatch.data.annotations.text_tables import COLUMNS, read_endonuke, read_tables, read_viewer
from cellpatch.data.store.intake import Intake
from cellpatch.data.tables import check_coordinates, check_filled

Origin = Literal["edge", "centre"]
_TEXT = {"table": read_tables, "endonuke": read_endonuke, "viewer": read_viewer}
LAYOUTS = ("auto", *_TEXT, "geojson", "labelme", "coco", "asap")


@dataclass(frozen=True)
class AnnotationFormat:
    """How annotation files are read: their layout, where a table's pixel 0 is, and what polygons are."""

    layout: str = "auto"
    pixel_origin: Origin = "edge"
    polygons: Polygons = "auto"


@dataclass(frozen=True, eq=False)
class Annotations:
    """Points with image, x, y, class, cell_id, where; x and y are pixels, where pixel i covers [i, i + 1).

    Columns `x_um` and `y_um` are there instead where a table states micrometres. `from_slide_corner` is true where
    points count from the slide's corner, not from that of its scanned bounds.
    """

    table: pd.DataFrame
    intake: Intake
    from_slide_corner: bool = False


def read_annotations(
    root: Path, points: str, annotation_format: AnnotationFormat, um_per_px: Callable[[str], float]
) -> Annotations:
    """Read points in image pixels; images are named relative to `root`.

    `points` is a file, or a glob below `root` where a layout has one file an image. The layouts:

    - `table`: CSV, TSV or Parquet with image, x, y, class, optional specimen, site, split and cell_id.
    - `endonuke`: `*/images/NAME.png` with `*/labels/NAME.txt`, lines `x y class`.
    - `viewer`: tab-separated Shift-JIS without header (X, Y, CELLTYPE, PROB, COLOR, DR), in the image's folder.
    - `geojson`, `labelme`, `asap`: a file an image of the same name. `coco`: a file for many images.
    - `auto`: by the file's suffix and content.

    `um_per_px` gives an image's scale, where polygons of unknown kind need it. Raises ValueError that names file and
    row on an unknown layout, a missing or malformed file, or a bad value.
    """
    layout = annotation_format.layout
    if layout not in LAYOUTS:
        raise ValueError(f"data.layout must be one of {list(LAYOUTS)}, but got {layout!r}")
    layout = _guess(points) if layout == "auto" else layout
    intake = Intake()
    if layout in _TEXT:
        table = _TEXT[layout](root, points)
        optional = [name for name in ("specimen", "cell_id", "split", "site") if name in table]
        check_filled(table, [*(name for name in COLUMNS if name in table), *optional])
        table = check_coordinates(table, 0.5 if annotation_format.pixel_origin == "centre" else 0.0)
    else:
        table = _read_shapes(root, points, annotation_format.polygons, um_per_px, intake)
        table = check_coordinates(table, 0.0)
    if "cell_id" not in table:
        table["cell_id"] = [where.replace(", row ", "#") for where in table["where"]]
    return Annotations(table, intake, from_slide_corner=layout == "asap")


def _guess(points: str) -> str:
    """The layout by the file's suffix."""
    name = points.lower().removesuffix(".gz")
    if name.endswith(".xml"):
        return "asap"
    return "geojson" if name.endswith((".geojson", ".json")) else "table"


def _read_shapes(
    root: Path, points: str, polygons: Polygons, um_per_px: Callable[[str], float], intake: Intake
) -> pd.DataFrame:
    """The cells of JSON and XML files; a JSON file's content decides which program wrote it."""
    images = ImageIndex(root)
    rows = []
    for file in annotation_files(root, points):
        name = shown_name(root, file)
        for image, shapes in _shapes_by_image(file, name, images, intake).items():
            cells = keep_cells(shapes, polygons, lambda image=image: um_per_px(image), intake)  # type: ignore[misc]
            rows += [(image, cell.x, cell.y, cell.label, cell.where) for cell in cells]
    if not rows:
        counts = ", ".join(intake.sentences()) or "no object"
        raise ValueError(f"data.points: {points} holds no classified cells ({counts})")
    return pd.DataFrame(rows, columns=[*COLUMNS, "where"])


def _shapes_by_image(file: Path, name: str, images: ImageIndex, intake: Intake) -> dict[str, list[Shape]]:
    """The objects of one annotation file, by the image's path below root."""

    def image_of(names: list[str]) -> str:
        return images.named(file, names).relative_to(images.root).as_posix()

    if file.name.lower().endswith(".xml"):
        return {image_of(annotated_names(file)): asap.read_shapes(file, name, intake)}
    document = read_json(file)
    if coco.is_coco(document):
        by_file = coco.read_shapes(document, name, intake)
        return {images.at_path(file, stated): shapes for stated, shapes in by_file.items()}
    if labelme.is_labelme(document):
        assert isinstance(document, dict)
        stated = Path(str(document["imagePath"]).replace("\\", "/")).name
        return {image_of([stated, *annotated_names(file)]): labelme.read_shapes(document, name, intake)}
    return {image_of(annotated_names(file)): geojson.read_shapes(document, name, intake)}
