"""Cut the cells to classify out of their images, in processes beside the forward pass where there are many."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, UInt8

from cellpatch.data.images.crops import CropSpec, CutCrops, ImageFolder, cut_points, open_slide_cached, resolve_scale
from cellpatch.data.store.reader import Geometry
from cellpatch.data.tables import collect_points_outside
from cellpatch.inference.new_cells import NewCells, PointOptions
from cellpatch.inference.partial import PartialPrediction
from cellpatch.runtime.error_collector import ErrorCollector
from cellpatch.runtime.parallel import lane_map

CHUNK = 256  # points cut together
AHEAD = 8  # chunks a worker, cut while the network works
_STRIPE_PX, _ROW_PX = 8192, 512  # a stripe's two rows of tiles take 25 MB in memory; 1.05 decodings a tile of 512 px
_WORTH_PROCESSES = 4000  # points; fewer are cut before processes have started
Crops = Iterator[tuple[int, UInt8[np.ndarray, "side side 3"]]]  # each with its row in the table of cells


@dataclass(frozen=True)
class Lanes:
    """`workers` processes that cut. `in_turns`: they rest while what takes the crops works, as it needs their cores."""

    workers: int
    in_turns: bool


def cut_crops(
    cells: NewCells,
    geometry: Geometry,
    options: PointOptions,
    so_far: PartialPrediction,
    problems: ErrorCollector,
    lanes: Lanes,
) -> tuple[Crops, list[str]]:
    """The crops of points that are not done, each with its row, and notes on what was chosen for an image.

    Points are cut image by image, each process its own part of them, stripe by stripe: so that a tile is decoded once.
    The reasons of points without a crop go to `so_far`, images that cannot be read to `problems`. Raises ValueError if
    the run's crops state no scale.
    """
    if geometry.um_per_px is None:
        raise ValueError(
            "the run's crops state no scale, so none can be cut from images: train with data.um_per_px, or "
            "give crops as the run's were"
        )
    if cells.from_slide_corner:
        options = replace(options, image=replace(options.image, origin="slide"))
    notes: list[str] = []
    tasks: list[pd.DataFrame] = []
    for file, rows in _places(cells, so_far).groupby("file", sort=False):
        _check_image(Path(str(file)), rows, options, problems, notes)
        order = cutting_order(rows["x"].to_numpy(), rows["y"].to_numpy())
        tasks += [rows.iloc[order[start : start + CHUNK]] for start in range(0, len(rows), CHUNK)]
    if problems.messages:
        return iter(()), notes
    images = ImageFolder(Path(), options.um_per_px, options.image)
    spec = CropSpec(geometry.crop_px, geometry.margin_px, geometry.um_per_px, True, options.border)
    workers = lanes.workers if sum(map(len, tasks)) >= _WORTH_PROCESSES else 1
    parts = [tasks[len(tasks) * lane // workers : len(tasks) * (lane + 1) // workers] for lane in range(workers)]
    points = [
        [(str(rows["file"].iloc[0]), rows["x"].to_numpy(), rows["y"].to_numpy()) for rows in part] for part in parts
    ]
    results = lane_map(partial(cut_points, images, spec), points, AHEAD, lanes.in_turns)
    return _crops_of(parts, results, so_far, problems), notes


def _crops_of(
    parts: list[list[pd.DataFrame]],
    results: Iterator[tuple[int, CutCrops | str]],
    so_far: PartialPrediction,
    problems: ErrorCollector,
) -> Crops:
    waiting = [iter(lane) for lane in parts]
    unreadable = set[str]()
    for lane, cut in results:
        rows = next(waiting[lane])
        if isinstance(cut, str):
            file = str(rows["file"].iloc[0])
            if file not in unreadable:
                problems.add(f"{rows['where'].iloc[0]}: {cut}")
                unreadable.add(file)
            continue
        for position, reason in cut.reasons.items():
            so_far.leave_out(int(rows.index[position]), reason.replace("cells whose", "its"))
        yield from zip(map(int, rows.index[cut.kept]), cut.crops, strict=True)


def cutting_order(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Points in stripes from top to bottom: the tiles of two rows of a stripe stay in memory, each is decoded once."""
    return np.lexsort((x, y // _ROW_PX, x // _STRIPE_PX))


def _places(cells: NewCells, so_far: PartialPrediction) -> pd.DataFrame:
    """Image, file and row, x and y of the points that are not done, in the source's order."""
    assert cells.xy is not None
    x, y = cells.xy.T
    places = pd.DataFrame({"file": list(map(str, cells.files)), "where": cells.where, "x": x, "y": y})
    waiting = ~so_far.done
    waiting[list(cells.left_out)] = False
    return places[waiting]


def _check_image(
    file: Path, rows: pd.DataFrame, options: PointOptions, problems: ErrorCollector, notes: list[str]
) -> None:
    """Collect what is wrong with an image or its points before any is cut, and what was chosen for it."""
    try:
        options.scale_of(file)
        slide = open_slide_cached(file, options.image)
    except ValueError as error:
        problems.add(f"{rows['where'].iloc[0]}: {error}")
        return
    notes += [f"{file.name}: {note}" for note in [slide.note, *resolve_scale(slide, options.um_per_px)[1]] if note]
    collect_points_outside(rows, file.name, slide.width, slide.height, problems)
