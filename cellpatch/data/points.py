"""Source `points`: images with annotated points, cut into crops at their native scale."""

import hashlib
import json
import math
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8

from cellpatch.data.annotations import annotation_files, read_annotations
from cellpatch.data.crops import Border, cut, note_outside
from cellpatch.data.images import Plane, open_plane
from cellpatch.data.problems import Problems
from cellpatch.data.processes import available, in_order
from cellpatch.data.source import Source, folder_of, inside, listing, specimen_regex
from cellpatch.data.store import Geometry
from cellpatch.data.tables import check_classes, warn_of_shared_images
from cellpatch.data.writer import StoreWriter
from cellpatch.last import Last

DROPPED = "crop leaves the image, or touches its transparent part"
_CHUNK = 256  # points cut together
_WORTH_PROCESSES = 2**27  # bytes of images; less is decoded before processes have started


class Points(Source):
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
        synthetic: bool,
    ) -> None:
        self.root = folder_of(root, "data.root")
        for key, value in (("field_um", field_um), ("margin_um", margin_um)):
            if not 0 <= value < 1e4 or (key == "field_um" and value == 0):
                raise ValueError(f"data.{key} must be a length in micrometres, but got {value}")
        scales = image_um_per_px.values() if isinstance(image_um_per_px, dict) else [image_um_per_px]
        for value in (um_per_px, *scales):
            if value is not None and not value > 0:
                raise ValueError(f"data.um_per_px and data.image_um_per_px must be > 0, but got {value}")
        self.points = points
        self.layout = layout
        self.class_names = {str(key): name for key, name in (class_names or {}).items()}
        self.classes = classes
        self.specimen_pattern = specimen_pattern
        self._regex = specimen_regex(specimen_pattern)
        self.image_um_per_px = image_um_per_px
        self.um_per_px = um_per_px
        self.field_um = field_um
        self.margin_um = margin_um
        self.border = border
        self.licence = licence
        self.synthetic = synthetic

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "table"}  # who cuts reads no points

    @cached_property
    def table(self) -> pd.DataFrame:
        """Points with image, x, y, class, specimen, where; sorted by image, in the annotators' order within."""
        table = read_annotations(self.root, self.points, self.layout)
        first = table.drop_duplicates("image")
        below = {
            image: inside(self.root, image, where).relative_to(self.root).as_posix()
            for image, where in zip(first["image"], first["where"], strict=True)
        }
        table["image"] = table["image"].map(below)  # one image is one specimen, however a table writes its path
        if self.class_names:
            table["class"] = table["class"].map(lambda name: self.class_names.get(name, name))
        if "specimen" not in table:
            first = table.drop_duplicates("image")
            named = zip(first["image"], first["where"], strict=True)
            table["specimen"] = table["image"].map({image: self._specimen(image, where) for image, where in named})
        else:
            warn_of_shared_images(table)
        return table.sort_values("image", kind="stable")

    def _specimen(self, image: str, where: str) -> str:
        if self._regex is None:
            return Path(image).with_suffix("").as_posix()
        match = self._regex.search(Path(image).name)
        if not match or not match.group(1):
            raise ValueError(f"{where}: data.specimen_pattern {self.specimen_pattern!r} finds no specimen in {image}")
        return match.group(1)

    def describe(self) -> dict[str, Any]:
        images, rows = self._images_and_rows()
        return self._parameters() | {"files": listing(self.root, images), "rows": rows}

    def _images_and_rows(self) -> tuple[list[Path], str]:
        """The images and a hash of the points, read once in a process while their files stay as they are."""
        files = [(file, file.stat()) for file in annotation_files(self.root, self.points)]
        state = [[str(file), stat.st_size, stat.st_mtime_ns] for file, stat in files]
        return _described.get(json.dumps([str(self.root), self.points, self._parameters(), state]), self._read)

    def _read(self) -> tuple[list[Path], str]:
        images = [self.root / image for image in self.table["image"].unique()]
        rows = pd.util.hash_pandas_object(self.table.astype(str), index=False).to_numpy().tobytes()
        return images, hashlib.sha256(rows).hexdigest()

    def _parameters(self) -> dict[str, Any]:
        names = (
            "layout class_names classes specimen_pattern image_um_per_px um_per_px field_um margin_um border licence "
            "synthetic"
        )
        return {"kind": "points"} | {name: getattr(self, name) for name in names.split()}

    def fill(self, folder: Path) -> None:
        try:
            self._fill(folder)
        finally:
            _opened.cache_clear()

    def _fill(self, folder: Path) -> None:
        classes = check_classes(self.table, self.classes)
        images = [(str(name), group) for name, group in self.table.groupby("image", sort=True)]
        um_per_px = self.um_per_px or self._first_scale(images)
        geometry = Geometry(round(self.field_um / um_per_px), math.ceil(self.margin_um / um_per_px - 1e-9), um_per_px)
        tasks = [
            (name, group.iloc[start : start + _CHUNK])
            for name, group in images
            for start in range(0, len(group), _CHUNK)
        ]
        places = [(name, part["x"].to_numpy(), part["y"].to_numpy()) for name, part in tasks]
        large = sum((self.root / name).stat().st_size for name, _ in images if (self.root / name).is_file())
        workers = available() if len(images) > 1 and large >= _WORTH_PROCESSES else 1
        problems, unread = Problems(), set[str]()
        with StoreWriter(folder, classes, geometry, self._parameters()) as writer:
            found = in_order(partial(_cut, self, geometry), places, workers)
            for (name, part), cuts in zip(tasks, found, strict=True):
                if isinstance(cuts, str):
                    if name not in unread:
                        problems.add(f"{part['where'].iloc[0]}: {cuts}")
                        unread.add(name)
                    continue
                note_outside(part, name, cuts.width, cuts.height, problems)
                if not problems.messages:
                    _add(writer, part, cuts)
            problems.raise_if_any()

    def _first_scale(self, images: list[tuple[str, pd.DataFrame]]) -> float:
        """Micrometres per pixel of the first image that can be read; raises ValueError if none can."""
        problems = Problems()
        for name, group in images:
            try:
                return self.open(name)[1]
            except ValueError as error:
                problems.add(f"{group['where'].iloc[0]}: {error}")
        problems.raise_if_any()
        raise ValueError(f"{self.points}: there are no points")

    def open(self, image: str) -> tuple[Plane, float]:
        """An image and its scale in micrometres per pixel."""
        file = self.root / image
        plane = _opened(file)
        return plane, self._scale(file, plane)

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


@dataclass(frozen=True)
class _Cuts:
    """Crops of some points of an image, and which of the points they are of."""

    width: int
    height: int
    kept: list[int]
    crops: UInt8[np.ndarray, "n side side 3"]


def _cut(
    source: Points, geometry: Geometry, task: tuple[str, Float[np.ndarray, " n"], Float[np.ndarray, " n"]]
) -> _Cuts | str:
    """Crops of the points (image, x, y), or why there are none."""
    image, *places = task
    try:
        plane, scale = source.open(image)
        assert geometry.um_per_px is not None
        ratio = geometry.um_per_px / scale
        if source.um_per_px is None and abs(ratio - 1) > 0.01:
            return f"{image}: has another scale than the first image; set data.um_per_px for all"
        ratio = 1.0 if abs(ratio - 1) < 1e-3 else ratio
        cuts = [cut(plane, x, y, geometry, ratio, source.border) for x, y in zip(*places, strict=True)]
    except ValueError as error:
        return str(error)
    kept = [i for i, crop in enumerate(cuts) if crop is not None]
    return _Cuts(plane.width, plane.height, kept, np.array([cuts[i] for i in kept], np.uint8))


_described = Last[tuple[list[Path], str]]()
_opened = lru_cache(maxsize=1)(open_plane)  # an image's chunks of points come one after the other


def _add(writer: StoreWriter, points: pd.DataFrame, cuts: _Cuts) -> None:
    if len(cuts.kept) < len(points):
        writer.dropped[DROPPED] += len(points) - len(cuts.kept)
    if not cuts.kept:
        return
    rows = points.iloc[cuts.kept]
    writer.add(
        cuts.crops,
        cell_id=list(rows["cell_id"]),
        label=list(rows["class"]),
        specimen=list(rows["specimen"]),
        source=list(rows["where"]),
        x=list(rows["x"]),
        y=list(rows["y"]),
    )
