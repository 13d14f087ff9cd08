"""Source `points`: images with annotated points, cut into crops at their native scale."""

import hashlib
import json
import math
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from cellpatch.data.annotations.files import annotation_files
from cellpatch.data.annotations.read import AnnotationFormat, Origin, read_annotations
from cellpatch.data.annotations.shapes import Polygons
from cellpatch.data.class_names import clean_name, join_names
from cellpatch.data.images.crops import Border, CropSpec, ImageFolder, open_slide_cached
from cellpatch.data.images.pixels import ImageOptions, Orientation
from cellpatch.data.paths import resolve_inside
from cellpatch.data.sources.cut_cells import add_cut, check_image
from cellpatch.data.sources.image_workers import cut_and_hash
from cellpatch.data.sources.last_read import ImagesAndRows, LastRead
from cellpatch.data.sources.point_checks import drop_contradictions
from cellpatch.data.sources.source import Source, files_fingerprint, folder_of, specimen_regex
from cellpatch.data.sources.specimens import specimens_of
from cellpatch.data.store.intake import Contradictions, Intake
from cellpatch.data.store.reader import Geometry
from cellpatch.data.store.writer import StoreWriter
from cellpatch.data.tables import (
    check_classes,
    check_named,
    check_splits,
    collect_points_outside,
    warn_about_shared_images,
)
from cellpatch.runtime.error_collector import ErrorCollector
from cellpatch.runtime.json_types import Json
from cellpatch.runtime.parallel import available_workers, ordered_parallel_map

_CHUNK = 256  # points cut together
_AHEAD = 8  # chunks a worker, cut while a shard is written
_WORTH_PROCESSES = 2**27  # bytes of images; less is decoded before processes have started
_NO_SPECIMEN = "cells whose image counts as a specimen (a column specimen or data.specimen_pattern names patients)"

_last_read = LastRead()  # for all sources of this process: each job of a grid makes its own


class Points(Source):
    """Images below `root` and points in image pixels, in one of the layouts of `read_annotations`.

    `field_um` is the side of a crop, `margin_um` what is kept around it on each side. Cells whose crop of
    `widest_field_um` would be left out are left out, so that narrower fields have the same cells. `um_per_px` is the
    store's scale (None: that of the images, which must then agree). `image_um_per_px` is the images' own (None: from
    the file; a mapping gives one per first-level folder). Where the two differ, crops are resampled. A point without a
    `specimen` column gets that of its image in the table `specimens` (image, specimen), or the first group of
    `specimen_pattern` searched in the image's path below root, or the image's path itself.

    Raises ValueError that names the key, or file and row, on a bad setting, table, point or image.
    """

    def __init__(  # the signature is the schema of conf/data/points.yaml
        self,
        root: str,
        points: str,
        layout: str,
        pixel_origin: Origin,
        slide_origin: Literal["auto", "bounds", "slide"],
        polygons: Polygons,
        class_names: dict[Any, str] | None,
        classes: list[str] | None,
        specimen_pattern: str | None,
        specimens: str | None,
        image_um_per_px: float | dict[str, float] | None,
        um_per_px: float | None,
        orientation: Orientation,
        scene: int | None,
        field_um: float,
        margin_um: float,
        border: Border,
        contradictions: Contradictions,
        licence: str,
        synthetic: bool,
        widest_field_um: float | None = None,
    ) -> None:
        self.root = folder_of(root, "data.root")
        if widest_field_um is not None and not field_um <= widest_field_um < 1e4:
            raise ValueError(
                f"data.widest_field_um must be null, or a length in micrometres of at least data.field_um={field_um}, "
                f"but got {widest_field_um}"
            )
        self.widest_field_um = widest_field_um
        for key, value in (("field_um", field_um), ("margin_um", margin_um)):
            if not 0 <= value < 1e4 or (key == "field_um" and value == 0):
                raise ValueError(f"data.{key} must be a length in micrometres, but got {value}")
        scales = image_um_per_px.values() if isinstance(image_um_per_px, dict) else [image_um_per_px]
        for value in (um_per_px, *scales):
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"data.um_per_px and data.image_um_per_px must be > 0, but got {value}")
        self.points = points
        self.layout = layout
        self.pixel_origin = pixel_origin
        self.slide_origin = slide_origin
        self.polygons = polygons
        self.class_names = {clean_name(key): name for key, name in (class_names or {}).items()}
        self.classes = classes
        self.specimen_pattern = specimen_pattern
        self._regex = specimen_regex(specimen_pattern)
        self.specimens = specimens
        self.image_um_per_px = image_um_per_px
        self.um_per_px = um_per_px
        self.orientation = orientation
        self.scene = scene
        self.field_um = field_um
        self.margin_um = margin_um
        self.border = border
        self.contradictions = contradictions
        self.licence = licence
        self.synthetic = synthetic
        self._intake = Intake()
        self._from_slide_corner = False

    @cached_property
    def table(self) -> pd.DataFrame:
        """Points with image, x, y, class, specimen, where; sorted by image, in the annotators' order within."""
        annotation_format = AnnotationFormat(self.layout, self.pixel_origin, self.polygons)
        read = read_annotations(self.root, self.points, annotation_format, lambda image: self._images.open(image)[1])
        self._intake, table = read.intake, read.table
        self._from_slide_corner = read.from_slide_corner
        first = table.drop_duplicates("image")
        relative = {
            image: resolve_inside(self.root, image, where).relative_to(self.root).as_posix()
            for image, where in zip(first["image"], first["where"], strict=True)
        }
        table["image"] = table["image"].map(relative)  # one image is one specimen, however a table writes its path
        if self.class_names:
            table["class"] = [self.class_names.get(clean_name(name), name) for name in table["class"]]
        check_named(table)
        table["class"] = join_names(list(table["class"]), self._intake)
        if "split" in table:
            check_splits(table)
        self._add_specimens(table)
        if "x_um" in table:
            table = self._in_pixels(table)
        table = drop_contradictions(table, self.contradictions, self._intake)
        return table.sort_values("image", kind="stable")

    def _add_specimens(self, table: pd.DataFrame) -> None:
        """Give each point its specimen, and where the table of specimens has them, its site."""
        if self.specimens is not None:
            rows = specimens_of(list(table["image"].unique()), self.specimens)
            for column in ("specimen", "site"):
                if column not in table and all(column in row for row in rows.values()):
                    table[column] = table["image"].map({image: row[column] for image, row in rows.items()})
        elif "specimen" not in table:
            first = table.drop_duplicates("image")
            images = zip(first["image"], first["where"], strict=True)
            table["specimen"] = table["image"].map({image: self._specimen(image, where) for image, where in images})
            if self._regex is None:
                self._intake.doubtful[_NO_SPECIMEN] += len(table)
            return
        warn_about_shared_images(table)

    def _specimen(self, image: str, where: str) -> str:
        """The specimen by the image's path below root; raises ValueError if the pattern matches none."""
        if self._regex is None:
            return Path(image).with_suffix("").as_posix()
        match = self._regex.search(image)
        if not match or not match.group(1):
            raise ValueError(f"{where}: data.specimen_pattern {self.specimen_pattern!r} finds no specimen in {image}")
        return match.group(1)

    def _in_pixels(self, table: pd.DataFrame) -> pd.DataFrame:
        """The points with x and y in pixels, where the table states micrometres."""
        scales = table["image"].map({image: self._images.open(image)[1] for image in table["image"].unique()})
        return table.assign(x=table["x_um"] / scales, y=table["y_um"] / scales)

    def describe(self) -> Json:
        read = self._images_and_rows()
        return self._parameters() | {"files": files_fingerprint(self.root, read.images), "rows": read.rows}

    def _images_and_rows(self) -> ImagesAndRows:
        """The images and a hash of the points, read again only if the annotation files or the parameters changed."""
        read = annotation_files(self.root, self.points) + ([Path(self.specimens)] if self.specimens else [])
        files = [(file, file.stat()) for file in read if file.exists()]
        state = [[str(file), stat.st_size, stat.st_mtime_ns] for file, stat in files]
        return _last_read.get(
            json.dumps([str(self.root), self.points, self.specimens, self._parameters(), state]), self._read
        )

    def _read(self) -> ImagesAndRows:
        images = [self.root / image for image in self.table["image"].unique()]
        rows = pd.util.hash_pandas_object(self.table.astype(str), index=False).to_numpy().tobytes()
        return ImagesAndRows(images, hashlib.sha256(rows).hexdigest())

    def _parameters(self) -> Json:
        names = (
            "layout pixel_origin slide_origin polygons class_names classes specimen_pattern image_um_per_px um_per_px "
            " orientation scene field_um margin_um border contradictions licence synthetic"
        )
        widest = {} if self.widest_field_um is None else {"widest_field_um": self.widest_field_um}
        return {"kind": "points"} | {name: getattr(self, name) for name in names.split()} | widest

    def fill(self, folder: Path) -> None:
        try:
            self._fill(folder)
        finally:
            open_slide_cached.cache_clear()

    def _fill(self, folder: Path) -> None:
        classes = check_classes(self.table, self.classes)
        images = {str(name): group for name, group in self.table.groupby("image", sort=True)}
        um_per_px = self.um_per_px or self._first_scale(images)
        geometry = Geometry(round(self.field_um / um_per_px), math.ceil(self.margin_um / um_per_px - 1e-9), um_per_px)
        tasks = [
            (name, group.iloc[start : start + _CHUNK])
            for name, group in images.items()
            for start in range(0, len(group), _CHUNK)
        ]
        points = [(name, part["x"].to_numpy(), part["y"].to_numpy()) for name, part in tasks]
        image_bytes = sum((self.root / name).stat().st_size for name in images if (self.root / name).is_file())
        workers = available_workers() if len(images) > 1 and image_bytes >= _WORTH_PROCESSES else 1
        problems, unreadable, intake = ErrorCollector(), set[str](), self._intake.copy()
        of_crops: Contradictions = "drop" if self.contradictions == "drop" else "keep"  # places were refused above
        writer = StoreWriter(folder, classes, geometry, self._parameters(), None, intake, of_crops)
        with writer:
            resampled = self.um_per_px is not None
            widest_px = round((self.widest_field_um or 0) / um_per_px)
            spec = CropSpec(geometry.crop_px, geometry.margin_px, um_per_px, resampled, self.border, widest_px)
            results = ordered_parallel_map(partial(cut_and_hash, self._images, spec), points, workers, _AHEAD)
            last = None
            for (name, part), found in zip(tasks, results, strict=True):
                if isinstance(found, str):
                    if name not in unreadable:
                        problems.add(f"{part['where'].iloc[0]}: {found}")
                        unreadable.add(name)
                    continue
                crops, hashes = found
                collect_points_outside(part, name, crops.width, crops.height, problems)
                if name != last:
                    check_image(images[name], crops, intake)
                    last = name
                if not problems.messages:
                    add_cut(writer, part, crops, hashes)
            problems.raise_if_any()
            if writer.mirrored:
                intake.doubtful["cells near the image's border, with mirrored pixels"] += writer.mirrored

    @property
    def _images(self) -> ImageFolder:
        from_slide = self.slide_origin == "slide" or (self.slide_origin == "auto" and self._from_slide_corner)
        options = ImageOptions(self.orientation, self.scene, "slide" if from_slide else "bounds")
        return ImageFolder(self.root, self.image_um_per_px, options)

    def _first_scale(self, images: dict[str, pd.DataFrame]) -> float:
        """Micrometres per pixel of the first readable image; raises ValueError if there is none."""
        problems = ErrorCollector()
        for name, group in images.items():
            try:
                return self._images.open(name)[1]
            except ValueError as error:
                problems.add(f"{group['where'].iloc[0]}: {error}")
        problems.raise_if_any()
        raise ValueError(f"{self.points}: no points were found")
