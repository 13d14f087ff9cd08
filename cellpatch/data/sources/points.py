"""Source `points`: images with annotated points, cut into crops at their native scale."""

import hashlib
import json
import math
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd

from cellpatch.data.images.crops import Border, CropSpec, CutCrops, ImageFolder, cut_points, last_plane
from cellpatch.data.sources.annotations import annotation_files, read_annotations
from cellpatch.data.sources.source import Source, files_fingerprint, folder_of, resolve_inside, specimen_regex
from cellpatch.data.sources.table_checks import check_classes, collect_points_outside, warn_about_shared_images
from cellpatch.data.store.reader import Geometry
from cellpatch.data.store.writer import StoreWriter
from cellpatch.runtime.cache import Last
from cellpatch.runtime.error_collector import ErrorCollector
from cellpatch.runtime.parallel import available_workers, ordered_parallel_map

DROPPED = "crop leaves the image, or touches its transparent part"
_CHUNK = 256  # points cut together
_AHEAD = 8  # chunks a worker; what is cut while a shard is written
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

    @cached_property
    def table(self) -> pd.DataFrame:
        """Points with image, x, y, class, specimen, where; sorted by image, in the annotators' order within."""
        table = read_annotations(self.root, self.points, self.layout)
        first = table.drop_duplicates("image")
        below = {
            image: resolve_inside(self.root, image, where).relative_to(self.root).as_posix()
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
            warn_about_shared_images(table)
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
        return self._parameters() | {"files": files_fingerprint(self.root, images), "rows": rows}

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
            last_plane.cache_clear()

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
        workers = available_workers() if len(images) > 1 and large >= _WORTH_PROCESSES else 1
        problems, unread = ErrorCollector(), set[str]()
        with StoreWriter(folder, classes, geometry, self._parameters()) as writer:
            how = CropSpec(geometry.side_px, um_per_px, self.um_per_px is not None, self.border)
            found = ordered_parallel_map(partial(cut_points, self._images, how), places, workers, _AHEAD)
            for (name, part), cuts in zip(tasks, found, strict=True):
                if isinstance(cuts, str):
                    if name not in unread:
                        problems.add(f"{part['where'].iloc[0]}: {cuts}")
                        unread.add(name)
                    continue
                collect_points_outside(part, name, cuts.width, cuts.height, problems)
                if not problems.messages:
                    _add(writer, part, cuts)
            problems.raise_if_any()

    @property
    def _images(self) -> ImageFolder:
        return ImageFolder(self.root, self.image_um_per_px)

    def _first_scale(self, images: list[tuple[str, pd.DataFrame]]) -> float:
        """Micrometres per pixel of the first image that can be read; raises ValueError if none can."""
        problems = ErrorCollector()
        for name, group in images:
            try:
                return self._images.open(name)[1]
            except ValueError as error:
                problems.add(f"{group['where'].iloc[0]}: {error}")
        problems.raise_if_any()
        raise ValueError(f"{self.points}: there are no points")


_described = Last[tuple[list[Path], str]]()


def _add(writer: StoreWriter, points: pd.DataFrame, cuts: CutCrops) -> None:
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
