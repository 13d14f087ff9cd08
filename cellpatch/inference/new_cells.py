"""The cells to classify: crops on disk, or points in images by a table or an annotation file."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from cellpatch.data.annotations import asap, coco, geojson, labelme
from cellpatch.data.annotations.features import open_features
from cellpatch.data.annotations.files import ImageIndex, annotated_names
from cellpatch.data.annotations.read import Origin
from cellpatch.data.annotations.shapes import Shape, flag_regions
from cellpatch.data.images.crops import Border, open_slide_cached, resolve_scale
from cellpatch.data.images.pixels import PLAIN, SLIDE_SUFFIXES, SUFFIXES, ZARR_SUFFIX, ImageOptions
from cellpatch.data.paths import resolve_inside
from cellpatch.data.sources.folder import images_below
from cellpatch.data.store.intake import Intake
from cellpatch.data.tables import check_coordinates, check_filled, read_table
from cellpatch.runtime.plain_text import is_plain, plain

TABLES = {".csv", ".tsv", ".txt", ".parquet"}
_REGION, _OTHER = "a region, not a cell", "not a point or polygon"


@dataclass(frozen=True)
class PointOptions:
    """For points in images.

    `um_per_px` is their scale where the files do not state it, `border` what happens near the border. `slide` is the
    image of a source that names none, or a folder: images are looked up below it by the name of an annotation file or
    as a table states them. `pixel_origin` as for a table of training cells. `image` is how files are read.
    """

    um_per_px: float | None = None
    border: Border = "reflect_margin"
    slide: Path | None = None
    pixel_origin: Origin = "edge"
    image: ImageOptions = PLAIN

    def __post_init__(self) -> None:
        if self.um_per_px is not None and not 0 < self.um_per_px < float("inf"):
            raise ValueError(f"--um-per-px must be finite and > 0, but got {self.um_per_px}")

    @property
    def images_root(self) -> Path | None:
        """The folder of the images, if `slide` is one."""
        is_folder = self.slide is not None and self.slide.is_dir() and self.slide.suffix.lower() != ZARR_SUFFIX
        return self.slide if is_folder else None

    def image_of(self, source: Path) -> Path:
        """The image of a source that names none; raises ValueError unless exactly one has its name."""
        if self.slide is not None and self.images_root is None:
            return self.slide
        return ImageIndex(self.images_root or source.parent).named(source, annotated_names(source))

    def scale_of(self, file: Path) -> float:
        """Micrometres per pixel of an image, as the user or else the file states it; raises ValueError if none does."""
        scale, _ = resolve_scale(open_slide_cached(file, self.image), self.um_per_px)
        if scale is None:
            raise ValueError(f"{file.name}: does not state its scale; give --um-per-px")
        return scale


@dataclass(frozen=True, eq=False)
class NewCells:
    """Cells in the order of their source.

    `table` has the user's columns, `names` what the user called those that were renamed. `files` is each cell's image,
    `where` its file and row. `xy` are pixels of the image, None for crops. `left_out` gives rows that are not cells
    their reason, `intake` counts objects that have no row. `document` is a GeoJSON source, `feature` each row's index
    among its features.
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
    intake: Intake = field(default_factory=Intake)

    def __len__(self) -> int:
        return len(self.files)


def list_cells(source: Path, options: PointOptions) -> NewCells:
    """The cells of an image, a folder of images, a table or an annotation file (GeoJSON, LabelMe, ASAP).

    Raises ValueError if there is no cell, or if `source` is something else.
    """
    suffix = source.name.lower().removesuffix(".gz").rpartition(".")[2]
    if not is_plain(str(source)):
        raise ValueError(f"{plain(str(source))}: its name is not UTF-8 or holds control characters; rename it")
    if source.is_dir():
        files = list(map(Path, images_below(source, Intake())))
        if not files:
            raise ValueError(f"{source}: holds no image; known are {', '.join(sorted(SUFFIXES))}")
        return _crops([(file, file.relative_to(source).as_posix()) for file in files])
    if source.is_file() and suffix in ("geojson", "json", "xml"):
        return _annotated(source, options)
    if source.suffix.lower() in TABLES:
        return _listed(source, options)
    if source.is_file() and source.suffix.lower() in SUFFIXES:
        return _crops([(source, source.name)])
    is_slide = source.suffix.lower() in SLIDE_SUFFIXES
    hint = "; a slide needs points: give the annotation file, and --slide" if is_slide else ""
    kinds = (
        f"an image, a folder of images, a table ({', '.join(sorted(TABLES))}), GeoJSON, LabelMe's JSON or ASAP's XML"
    )
    raise ValueError(f"{source}: must be {kinds}{hint}")


def _crops(files: Sequence[tuple[Path, str]]) -> NewCells:
    names = [name for _, name in files]
    return NewCells(pd.DataFrame({"path": names}), [file for file, _ in files], names)


def _listed(source: Path, options: PointOptions) -> NewCells:
    """The cells of a table, which names crops in `path`, or points in `image`, `x` and `y` (or `x_um` and `y_um`).

    Points without `image` or `path` are of one image: --slide, or the one that is called like the table.
    """
    table = read_table(source, [])
    names = table.attrs.pop("names", {})
    where = list(table["where"])
    axes = next((each for each in (["x", "y"], ["x_um", "y_um"]) if set(each) <= set(table.columns)), None)
    names_crops = "path" in table and "image" not in table and options.slide is None
    one_image = options.slide is not None and options.images_root is None
    if axes is not None and (one_image or "image" not in table) and not names_crops:
        check_filled(table, axes)
        files = [options.image_of(source)] * len(table)
    elif (axes is not None and "image" in table) or "path" in table:
        column = "image" if axes is not None and "image" in table else "path"
        axes = axes if column == "image" else None
        check_filled(table, [column, *(axes or [])])
        stated = [str(name).replace("\\", "/") for name in table[column]]
        root = options.images_root or source.parent
        first = dict(reversed(list(zip(stated, where, strict=True))))
        file_of = {name: resolve_inside(root, name, row) for name, row in first.items()}  # points share few images
        files = [file_of[name] for name in stated]
    else:
        raise ValueError(f"{source}: needs a column path (crops) or image, x, y (points in images)")
    xy = None if axes is None else _pixels(table[[*axes, "where"]].copy(), axes, files, options)
    index = None
    if source.suffix.lower() == ".parquet":
        index = pd.read_parquet(source, columns=[]).index
        index = index if len(index) == len(table) else None
    return NewCells(table.drop(columns="where"), files, where, xy, names=names, index=index)


def _pixels(table: pd.DataFrame, axes: list[str], files: list[Path], options: PointOptions) -> Float[np.ndarray, "n 2"]:
    """x and y in pixels, where pixel i covers [i, i + 1)."""
    xy = check_coordinates(table, 0.5 if options.pixel_origin == "centre" else 0.0)[axes].to_numpy(float)
    if axes == ["x", "y"]:
        return xy
    scales = {file: options.scale_of(file) for file in set(files)}
    return xy / np.array([scales[file] for file in files])[:, None]


def _annotated(source: Path, options: PointOptions) -> NewCells:
    """The cells of an annotation file of one image; regions and other objects are left out with their reason."""
    is_xml = source.name.lower().endswith(".xml")
    document = None if is_xml else open_features(source)
    if coco.is_coco(document):
        raise ValueError(f"{source}: is a COCO file; predict takes GeoJSON, or a table of points")
    file = options.image_of(source)
    intake, ids = Intake(), list[object]()
    objects: Iterable[list[Shape]]  # of each feature
    if is_xml:
        objects = [[shape] for shape in asap.read_shapes(source, source.name, intake)]
    elif labelme.is_labelme(document):
        objects = [[shape] for shape in labelme.read_shapes(document, source.name, intake)]
    else:
        objects = _shapes_of_features(document, source.name, ids)
    x, y, where, features = list[float](), list[float](), list[str](), list[int]()
    sides, stated, others = list[float | None](), list[bool | None](), set[int]()
    for number, of_feature in enumerate(objects):
        if not of_feature:
            others.add(len(x))
        for shape in of_feature or [Shape(np.nan, np.nan, None, f"{source.name}, row {number + 1}")]:
            x.append(shape.x)
            y.append(shape.y)
            where.append(shape.where)
            features.append(number)
        sides += [shape.side_px for shape in of_feature]
        stated += [shape.is_region for shape in of_feature]
    is_region = iter(flag_regions(sides, stated, "auto", lambda: options.scale_of(file)))
    reasons = (_OTHER if row in others else _REGION if next(is_region) else "" for row in range(len(x)))
    left_out = {row: reason for row, reason in enumerate(reasons) if reason}
    if len(left_out) == len(x):
        raise ValueError(f"{source}: holds no point, detection or cell to classify among {len(x)} objects")
    table = pd.DataFrame({"image": file.name, "x": x, "y": y})
    if any(each is not None for each in ids):
        table.insert(0, "id", [ids[number] for number in features])
    return NewCells(
        table,
        [file] * len(x),
        where,
        table[["x", "y"]].to_numpy(float),
        left_out,
        document=document if ids else None,
        feature=features if ids else None,
        from_slide_corner=is_xml,
        intake=intake,
    )


def _shapes_of_features(document: object, name: str, ids: list[object]) -> Iterator[list[Shape]]:
    """The shapes of each feature; its id is added to `ids`, None without one."""
    for number, feature in enumerate(geojson.features_of(document, name), 1):
        ids.append(feature.get("id"))
        yield geojson.shapes_of(feature, f"{name}, row {number}")
