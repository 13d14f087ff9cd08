"""Source `points`: images with annotated points, cut into crops at their native scale."""

import math
import re
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cellpatch.data.annotations import read_annotations
from cellpatch.data.crops import Border, cut
from cellpatch.data.images import Plane, open_plane
from cellpatch.data.problems import Problems
from cellpatch.data.source import folder_of, inside, listing
from cellpatch.data.store import Geometry
from cellpatch.data.tables import check_classes
from cellpatch.data.writer import StoreWriter


class Points:
    """Images below `root` and points in image pixels, in one of the layouts of `read_annotations`.

    `field_um` is the side of a crop, `margin_um` what is kept around it on each side. `um_per_px` is the
    store's scale (None: that of the images, which must then agree); `image_um_per_px` the images' own (None:
    from the file; a mapping gives one per first-level folder). Where the two differ, crops are resampled. A
    point without a `specimen` column gets the first group of `specimen_pattern` searched in the image's
    name, or the image's name itself.
    """

    def __init__(
        self,
        root: str,
        points: str,
        layout: str,
        class_names: dict[Any, str] | None,
        classes: list[str] | None,
        specimen_pattern: str | None,
        image_um_per_px: float | dict[str, float] | None,
        um_per_px: float | None,
        field_um: float,
        margin_um: float,
        border: Border,
        licence: str,
    ) -> None:
        self.root = folder_of(root, "data.root")
        for key, value in (("field_um", field_um), ("margin_um", margin_um)):
            if not 0 <= value < 1e4 or (key == "field_um" and value == 0):
                raise ValueError(f"data.{key} must be a length in micrometres, but got {value}")
        self.points = points
        self.layout = layout
        self.class_names = {str(key): name for key, name in (class_names or {}).items()}
        self.classes = classes
        self.specimen_pattern = specimen_pattern
        self.image_um_per_px = image_um_per_px
        self.um_per_px = um_per_px
        self.field_um = field_um
        self.margin_um = margin_um
        self.border = border
        self.licence = licence

    @cached_property
    def table(self) -> pd.DataFrame:
        """Points with image, x, y, class, specimen, where; sorted by image, in the annotators' order within."""
        table = read_annotations(self.root, self.points, self.layout)
        if self.class_names:
            table["class"] = table["class"].map(lambda name: self.class_names.get(name, name))
        if "specimen" not in table:
            table["specimen"] = [self._specimen(image) for image in table["image"]]
        return table.sort_values("image", kind="stable")

    def _specimen(self, image: str) -> str:
        name = Path(image).name
        if self.specimen_pattern is None:
            return Path(image).with_suffix("").as_posix()
        match = re.search(self.specimen_pattern, name)
        if not match:
            raise ValueError(f"{image}: data.specimen_pattern {self.specimen_pattern!r} finds no specimen")
        return match.group(1)

    def describe(self) -> dict[str, Any]:
        images = [inside(self.root, image, "image") for image in self.table["image"].unique()]
        rows = pd.util.hash_pandas_object(self.table.astype(str), index=False).to_numpy()
        return self._parameters() | {"files": listing(self.root, images), "rows": str(rows.sum())}

    def _parameters(self) -> dict[str, Any]:
        names = (
            "layout class_names classes specimen_pattern image_um_per_px um_per_px field_um margin_um border licence"
        )
        return {"kind": "points", "synthetic": False} | {name: getattr(self, name) for name in names.split()}

    def fill(self, folder: Path) -> None:
        classes = check_classes(self.table, self.classes)
        images = [(str(name), group) for name, group in self.table.groupby("image", sort=True)]
        um_per_px = self.um_per_px or self._scale(*self._open(images[0][0]))
        geometry = Geometry(round(self.field_um / um_per_px), math.ceil(self.margin_um / um_per_px - 1e-9), um_per_px)
        problems = Problems()
        with StoreWriter(folder, classes, geometry, self._parameters()) as writer:
            for name, group in images:
                try:
                    file, plane = self._open(name)
                    scale = um_per_px / self._scale(file, plane)
                except ValueError as error:
                    problems.add(str(error))
                    continue
                if self.um_per_px is None and abs(scale - 1) > 0.01:
                    problems.add(f"{file}: has another scale than the first image; set data.um_per_px for all")
                outside = group[(group["x"] >= plane.width) | (group["y"] >= plane.height)]
                for where, x, y in zip(outside["where"], outside["x"], outside["y"], strict=True):
                    problems.add(f"{where}: x={x} y={y} is outside {name} ({plane.width}x{plane.height} px)")
                if not problems.messages:
                    self._cut(writer, plane, group, geometry, 1.0 if abs(scale - 1) < 1e-3 else scale)
            problems.raise_if_any()

    def _open(self, image: str) -> tuple[Path, Plane]:
        file = inside(self.root, image, self.points)
        return file, open_plane(file)

    def _scale(self, file: Path, plane: Plane) -> float:
        """Micrometres per pixel of one image: as configured, else as its file says."""
        stated = self.image_um_per_px
        if isinstance(stated, dict):
            top = file.relative_to(self.root).parts[0]
            if top not in stated:
                raise ValueError(f"{file}: data.image_um_per_px has no entry for {top!r}, only {list(stated)}")
            stated = stated[top]
        um_per_px = stated or plane.um_per_px
        if um_per_px is None:
            raise ValueError(f"{file}: does not state its scale; set data.image_um_per_px")
        return um_per_px

    def _cut(self, writer: StoreWriter, plane: Plane, points: pd.DataFrame, geometry: Geometry, scale: float) -> None:
        kept, crops = [], []
        for index, (x, y) in enumerate(zip(points["x"], points["y"], strict=True)):
            crop = cut(plane, x, y, geometry, scale, self.border)
            if crop is None:
                writer.dropped["crop leaves the image"] += 1
            else:
                kept.append(index)
                crops.append(crop)
        if not kept:
            return
        rows = points.iloc[kept]
        writer.add(
            np.stack(crops),
            cell_id=list(rows["cell_id"]),
            label=list(rows["class"]),
            specimen=list(rows["specimen"]),
            source=list(rows["where"]),
            x=list(rows["x"]),
            y=list(rows["y"]),
        )
