"""Cut the cells to classify out of their images, in processes beside the forward pass where there are many."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, UInt8

from cellpatch.data.images.crops import (
    Border,
    CropSpec,
    ImageFolder,
    cut_points,
    open_slide_cached,
    resolve_scale,
)
from cellpatch.data.images.pixels import ImageOptions
from cellpatch.data.store.reader import Geometry
from cellpatch.data.tables import collect_points_outside
from cellpatch.inference.new_cells import NewCells
from cellpatch.inference.partial import PartialPrediction
from cellpatch.runtime.error_collector import ErrorCollector
from cellpatch.runtime.parallel import available_workers, ordered_parallel_map

CHUNK = 256  # points cut together
AHEAD = 8  # chunks a worker, cut while the network works
TILE_PX = 1024  # points are cut tile by tile, so that a slide's tiles are decoded once
_WORTH_PROCESSES = 4000  # points; fewer are cut before processes have started
Crops = Iterator[tuple[int, UInt8[np.ndarray, "side side 3"]]]  # each with its row in the table of cells


@dataclass(frozen=True)
class PointOptions:
    """For points in images.

    `um_per_px` is their scale where the files do not state it, `border` what happens near the border, `slide` the image
    of a source that names none. `pixel_origin` as for a table of training cells. `image` is how files are read.
    """

    um_per_px: float | None = None
    border: Border = "reflect_margin"
    slide: Path | None = None
    pixel_origin: str = "edge"
    image: ImageOptions = field(default_factory=ImageOptions)

    def __post_init__(self) -> None:
        if self.um_per_px is not None and not 0 < self.um_per_px < float("inf"):
            raise ValueError(f"--um-per-px must be finite and > 0, but got {self.um_per_px}")


@dataclass(frozen=True, eq=False)
class Places:
    """Where cells are, and which of them are done."""

    cells: NewCells
    xy: Float[np.ndarray, "n 2"]
    done: Bool[np.ndarray, " n"]

    def table(self) -> pd.DataFrame:
        """The places that are not done, image by image in the source's order, near ones together within each."""
        places = pd.DataFrame({"file": [str(file) for file in self.cells.files], "where": self.cells.where})
        places["x"], places["y"] = self.xy[:, 0], self.xy[:, 1]
        return places[~self.done].drop(index=[row for row in self.cells.left_out if not self.done[row]])


def cut_crops(
    places: Places,
    geometry: Geometry,
    options: PointOptions,
    so_far: PartialPrediction,
    problems: ErrorCollector,
    notes: list[str],
) -> Crops:
    if geometry.um_per_px is None:
        raise ValueError("the run's crops state no scale, so none can be cut from images: cut them as the run's were")
    image_options = replace(options.image, origin="slide") if places.cells.from_slide_corner else options.image
    images = ImageFolder(Path(), options.um_per_px, image_options)
    tasks = []
    for file, rows in places.table().groupby("file", sort=False):
        _check_image(Path(str(file)), rows, images, options, problems, notes)
        near = np.lexsort((rows["x"] // TILE_PX, rows["y"] // TILE_PX))
        tasks += [rows.iloc[near[start : start + CHUNK]] for start in range(0, len(rows), CHUNK)]
    if problems.messages:
        return
    spec = CropSpec(geometry.crop_px, geometry.margin_px, geometry.um_per_px, True, options.border)
    points = [(str(rows["file"].iloc[0]), rows["x"].to_numpy(), rows["y"].to_numpy()) for rows in tasks]
    workers = available_workers() if sum(map(len, tasks)) >= _WORTH_PROCESSES else 1
    for rows, cut in zip(
        tasks, ordered_parallel_map(partial(cut_points, images, spec), points, workers, AHEAD), strict=True
    ):
        if isinstance(cut, str):
            problems.add(f"{rows['where'].iloc[0]}: {cut}")
            continue
        kept = set(cut.kept)
        for position, reason in cut.reasons.items():
            so_far.leave_out(int(rows.index[position]), reason.replace("cells whose", "its"))
        assert len(kept) + len(cut.reasons) == len(rows)
        yield from zip((int(rows.index[position]) for position in cut.kept), cut.crops, strict=True)


def _check_image(
    file: Path,
    rows: pd.DataFrame,
    images: ImageFolder,
    options: PointOptions,
    problems: ErrorCollector,
    notes: list[str],
) -> None:
    """Collect what is wrong with an image or its points before any is cut, and what was chosen for it."""
    try:
        slide = open_slide_cached(file, images.options)
        scale, doubts = resolve_scale(slide, options.um_per_px)
        if scale is None:
            raise ValueError(f"{file.name}: does not state its scale; give --um-per-px")
    except ValueError as error:
        problems.add(f"{rows['where'].iloc[0]}: {error}")
        return
    notes += [f"{file.name}: {note}" for note in [slide.note, *doubts] if note]
    collect_points_outside(rows, file.name, slide.width, slide.height, problems)
