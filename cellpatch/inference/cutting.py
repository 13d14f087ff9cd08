"""Cut the cells to classify out of their images, in processes beside the forward pass where there are many."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from cellpatch.data.images.crops import CropSpec, ImageFolder, cut_points, open_slide_cached, resolve_scale
from cellpatch.data.store.reader import Geometry
from cellpatch.data.tables import collect_points_outside
from cellpatch.inference.new_cells import NewCells, PointOptions
from cellpatch.inference.partial import PartialPrediction
from cellpatch.runtime.error_collector import ErrorCollector
from cellpatch.runtime.parallel import available_workers, ordered_parallel_map

CHUNK = 256  # points cut together
AHEAD = 8  # chunks a worker, cut while the network works
TILE_PX = 1024  # points are cut tile by tile, so that a slide's tiles are decoded once
_WORTH_PROCESSES = 4000  # points; fewer are cut before processes have started
Crops = Iterator[tuple[int, UInt8[np.ndarray, "side side 3"]]]  # each with its row in the table of cells


def cut_crops(
    cells: NewCells,
    geometry: Geometry,
    options: PointOptions,
    so_far: PartialPrediction,
    problems: ErrorCollector,
    notes: list[str],
) -> Crops:
    """The crops of points that are not done, each with its row; the reasons of points without one go to `so_far`.

    Points are cut image by image and tile by tile, so that each tile is decoded once. `notes` gets what was chosen for
    an image. Raises ValueError if the run's crops state no scale.
    """
    if geometry.um_per_px is None:
        raise ValueError("the run's crops state no scale, so none can be cut from images: cut them as the run's were")
    if cells.from_slide_corner:
        options = replace(options, image=replace(options.image, origin="slide"))
    tasks = []
    for file, rows in _places(cells, so_far).groupby("file", sort=False):
        _check_image(Path(str(file)), rows, options, problems, notes)
        near = np.lexsort((rows["x"] // TILE_PX, rows["y"] // TILE_PX))
        tasks += [rows.iloc[near[start : start + CHUNK]] for start in range(0, len(rows), CHUNK)]
    if problems.messages:
        return
    images = ImageFolder(Path(), options.um_per_px, options.image)
    spec = CropSpec(geometry.crop_px, geometry.margin_px, geometry.um_per_px, True, options.border)
    points = [(str(rows["file"].iloc[0]), rows["x"].to_numpy(), rows["y"].to_numpy()) for rows in tasks]
    workers = available_workers() if sum(map(len, tasks)) >= _WORTH_PROCESSES else 1
    results = ordered_parallel_map(partial(cut_points, images, spec), points, workers, AHEAD)
    unreadable = set[str]()
    for rows, (file, _, _), cut in zip(tasks, points, results, strict=True):
        if isinstance(cut, str):
            if file not in unreadable:
                problems.add(f"{rows['where'].iloc[0]}: {cut}")
                unreadable.add(file)
            continue
        for position, reason in cut.reasons.items():
            so_far.leave_out(int(rows.index[position]), reason.replace("cells whose", "its"))
        yield from zip(map(int, rows.index[cut.kept]), cut.crops, strict=True)


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
