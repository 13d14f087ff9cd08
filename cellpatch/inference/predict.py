"""Classify new cells with a stored run.

A source is an image, a folder (every image below it), a table (CSV, TSV or Parquet) or an annotation file of one image
(QuPath's GeoJSON, LabelMe's JSON, ASAP's XML). A table with `image`, `x` and `y` gives where cells are in larger images
or slides, and crops are cut there at the run's scale. Otherwise images are crops as the run was trained on: of its side
with its margin, at its scale; a table names them in its column `path`. Paths of a table lie below its folder.
"""

import hashlib
import json
from dataclasses import dataclass
from os import fsencode
from os.path import realpath  # of a link to itself too, where Path.resolve raises
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from cellpatch.data.images.decoding import decode
from cellpatch.data.sources.source import file_state
from cellpatch.data.store.reader import Geometry
from cellpatch.inference.cutting import Crops, Lanes, cut_crops
from cellpatch.inference.new_cells import NewCells, PointOptions, list_cells
from cellpatch.inference.partial import PartialPrediction
from cellpatch.inference.restore import RestoredRun, predict_probabilities, restore
from cellpatch.models.network import Network
from cellpatch.runtime.device import inference_batch_size, resolve_device
from cellpatch.runtime.error_collector import ErrorCollector
from cellpatch.runtime.parallel import available_workers
from cellpatch.runtime.progress import Progress

LEFT_OUT = "left_out"


@dataclass(frozen=True, eq=False)
class Prediction:
    """Cells in the user's order, and the probabilities of those that were classified.

    `rows` are the indices of these cells, `left_out` the reasons of the others by index.
    """

    cells: NewCells
    classes: list[str]
    rows: list[int]
    probabilities: Float[np.ndarray, "n classes"]
    left_out: dict[int, str]
    notes: list[str]
    so_far: PartialPrediction

    def finish(self) -> None:
        """Remove what was kept for a killed prediction: this one is written."""
        self.so_far.remove()

    def table(self) -> pd.DataFrame:
        """The user's columns; `class`, its `probability`, `p_CLASS` of every class, and why a row has none.

        A column of the user's with one of these names gets `_given` behind it.
        """
        names = ["class", "probability", *(f"p_{name}" for name in self.classes), LEFT_OUT]
        given = self.cells.table.rename(columns=self.cells.names)
        given = given.rename(columns={name: f"{name}_given" for name in names if name in given})
        values = np.full((len(self.cells), len(self.classes)), np.nan, np.float32)
        values[self.rows] = self.probabilities
        labels = np.full(len(self.cells), None, object)
        labels[self.rows] = np.array(self.classes)[self.probabilities.argmax(axis=1)]
        columns = {"class": labels, "probability": values.max(axis=1)}
        columns |= {f"p_{name}": values[:, code] for code, name in enumerate(self.classes)}
        reasons = [self.left_out.get(row, "") for row in range(len(self.cells))]
        return given.assign(**columns, **{LEFT_OUT: reasons})


def predict(
    run: Path,
    source: Path,
    weights_file: Path | None = None,
    points: PointOptions | None = None,
    partial: Path | None = None,
    workers: int | None = None,
) -> Prediction:
    """Classify the cells of a source; crops are cut in processes beside the forward pass where there are many.

    A point whose crop leaves its image is left out with that reason, unless the border is "reflect". `partial` is a
    folder for what is done so far: the same call resumes from there, and `Prediction.finish` removes it. `workers` are
    the processes that cut (None: as many as there are cores, at most eight). Raises one
    ValueError that lists every image that cannot be read or has another side and every point outside its image, and for
    what `restore` refuses.
    """
    options = points or PointOptions()
    cells = list_cells(source, options)
    if cells.xy is None and options != PointOptions():
        raise ValueError(f"{source} holds crops, cut already: a scale and a border are for points in images")
    restored = restore(run, weights_file)
    device = resolve_device("auto")
    network = restored.network.to(device)
    key = json.dumps([restored.stored.record.identity, _fingerprint(cells), repr(options)])
    so_far = PartialPrediction(partial, key, len(cells), len(restored.classes))
    problems = ErrorCollector()
    crops, chosen = read_crops(cells, restored, options, so_far, problems, workers)
    notes = [*cells.intake.sentences(), *chosen]
    total = len(cells) - len(cells.left_out)
    _classify(network, crops, problems, inference_batch_size(network.backbone.input_px, device), so_far, total)
    problems.raise_if_any()
    left_out = cells.left_out | so_far.left_out
    rows = [row for row in np.flatnonzero(so_far.done).tolist() if row not in left_out]
    if not rows:
        reasons = ", ".join(sorted(set(left_out.values())))
        raise ValueError(f"{source}: no cell can be classified ({reasons}); --border reflect mirrors the images")
    so_far.flush()
    classes = [str(name) for name in restored.classes]
    return Prediction(cells, classes, rows, so_far.probabilities[rows], left_out, notes, so_far)


def read_crops(
    cells: NewCells,
    restored: RestoredRun,
    options: PointOptions,
    so_far: PartialPrediction,
    problems: ErrorCollector,
    workers: int | None = None,
) -> tuple[Crops, list[str]]:
    """The crops of cells that are not done, each with its row, and notes on what was chosen for an image.

    Reasons of cells without a crop go to `so_far`, what cannot be read to `problems`. Raises ValueError as `cut_crops`.
    """
    if cells.xy is None:
        return _read_crops(cells, restored.stored.name, restored.geometry, problems), []
    in_turns = next(restored.network.parameters()).device.type == "cpu"
    lanes = Lanes(workers or available_workers(), in_turns)
    return cut_crops(cells, restored.geometry, options, so_far, problems, lanes)


def _fingerprint(cells: NewCells) -> str:
    """A hash of the cells and their images: another table, image or point starts from the beginning."""
    digest = hashlib.sha256()
    for file in sorted(set(cells.files)):
        digest.update(fsencode(f"{realpath(file)}\0{file_state(file)}\n"))
    digest.update(fsencode("\0".join(map(str, cells.files))))
    if cells.xy is not None:
        digest.update(np.ascontiguousarray(cells.xy).tobytes())
    return digest.hexdigest()


def _classify(
    network: Network, crops: Crops, problems: ErrorCollector, batch_size: int, so_far: PartialPrediction, total: int
) -> None:
    """Classify crops as they come; once there are problems, crops are only checked."""
    rows: list[int] = []
    batch: list[np.ndarray] = []
    progress = Progress("classified", total, int(so_far.done.sum()))
    for row, crop in crops:
        if not problems.messages:
            rows.append(row)
            batch.append(crop)
        if len(batch) == batch_size:
            so_far.add(rows, predict_probabilities(network, np.stack(batch)))
            rows, batch = [], []
            progress.show(int(so_far.done.sum()))
    if batch and not problems.messages:
        so_far.add(rows, predict_probabilities(network, np.stack(batch)))


def _read_crops(cells: NewCells, run: str, geometry: Geometry, problems: ErrorCollector) -> Crops:
    for row, rgb in decode(list(zip(cells.files, cells.where, strict=True)), problems):
        if rgb.shape[0] == geometry.side_px:
            yield row, rgb
        else:
            problems.add(f"{cells.where[row]}: is {rgb.shape[0]} px wide; {run} takes {_describe(geometry)}")


def _describe(geometry: Geometry) -> str:
    margin = f", a margin of {geometry.margin_px} px on each side included" if geometry.margin_px else ""
    scale = f", at {geometry.um_per_px:g} um/px" if geometry.um_per_px else ""
    return f"{geometry.side_px} px{margin}{scale}"
