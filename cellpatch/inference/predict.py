"""Classify new cells with a stored run.

A source is an image, a folder (every image below it), a table (CSV, TSV or Parquet) or an annotation file of one image
(QuPath's GeoJSON, LabelMe's JSON, ASAP's XML). A table with `image`, `x` and `y` says where cells are in larger images
or slides, and crops are cut there at the run's scale. Otherwise images are crops as the run was trained on: of its side
with its margin, at its scale; a table names them in its column `path`. Paths of a table lie below its folder.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8

from cellpatch.data.images.crops import Border, Crop, CropSpec, cut, resolve_scale
from cellpatch.data.images.decoding import decode
from cellpatch.data.images.pixels import ImageOptions
from cellpatch.data.images.readers import open_slide
from cellpatch.data.store.reader import Geometry
from cellpatch.data.tables import collect_points_outside
from cellpatch.inference.new_cells import NewCells, list_cells
from cellpatch.inference.restore import predict_probabilities, restore
from cellpatch.models.network import Network
from cellpatch.runtime.device import inference_batch_size, resolve_device
from cellpatch.runtime.error_collector import ErrorCollector

LEFT_OUT = "left_out"
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
    run: Path, source: Path, weights_file: Path | None = None, points: PointOptions | None = None
) -> Prediction:
    """Classify the cells of a source.

    A point whose crop leaves its image is left out with that reason, unless the border is "reflect". Raises one
    ValueError that lists every image that cannot be read or has another side and every point outside its image, and for
    what `restore` refuses.
    """
    options = points or PointOptions()
    cells = list_cells(source, options.slide, 0.5 if options.pixel_origin == "centre" else 0.0)
    if cells.xy is None and options != PointOptions():
        raise ValueError(f"{source} holds crops, cut already: a scale and a border are for points in images")
    restored = restore(run, weights_file)
    device = resolve_device("auto")
    network = restored.network.to(device)
    problems, left_out, notes = ErrorCollector(), dict(cells.left_out), list[str]()
    if cells.xy is None:
        crops = _read_crops(cells, run.name, restored.geometry, problems)
    else:
        crops = _cut_crops(cells, cells.xy, restored.geometry, options, problems, left_out, notes)
    rows, parts = _classify(network, crops, problems, inference_batch_size(network.backbone.input_px, device))
    problems.raise_if_any()
    if not rows:
        reasons = ", ".join(sorted(set(left_out.values())))
        raise ValueError(f"{source}: no cell can be classified ({reasons}); --border reflect mirrors the images")
    return Prediction(cells, [str(name) for name in restored.classes], rows, np.concatenate(parts), left_out, notes)


def _classify(
    network: Network, crops: Crops, problems: ErrorCollector, batch_size: int
) -> tuple[list[int], list[Float[np.ndarray, "b classes"]]]:
    """Rows and their probabilities in parts; once there are problems, crops are only checked."""
    rows: list[int] = []
    parts, batch = [], []
    for row, crop in crops:
        if not problems.messages:
            rows.append(row)
            batch.append(crop)
        if len(batch) == batch_size:
            parts.append(predict_probabilities(network, np.stack(batch)))
            batch = []
    if batch and not problems.messages:
        parts.append(predict_probabilities(network, np.stack(batch)))
    return rows, parts


def _read_crops(cells: NewCells, run: str, geometry: Geometry, problems: ErrorCollector) -> Crops:
    for row, rgb in decode(list(zip(cells.files, cells.where, strict=True)), None, problems):
        if rgb.shape[0] == geometry.side_px:
            yield row, rgb
        else:
            problems.add(f"{cells.where[row]}: is {rgb.shape[0]} px wide; {run} takes {_describe(geometry)}")


def _cut_crops(
    cells: NewCells,
    xy: Float[np.ndarray, "n 2"],
    geometry: Geometry,
    options: PointOptions,
    problems: ErrorCollector,
    left_out: dict[int, str],
    notes: list[str],
) -> Crops:
    if geometry.um_per_px is None:
        raise ValueError("the run's crops state no scale, so none can be cut from images: cut them as the run's were")
    spec = CropSpec(geometry.crop_px, geometry.margin_px, geometry.um_per_px, True, options.border)
    image_options = replace(options.image, origin="slide") if cells.from_slide_corner else options.image
    places = pd.DataFrame({"file": cells.files, "where": cells.where, "x": xy[:, 0], "y": xy[:, 1]})
    for file, rows in places.drop(index=list(cells.left_out)).groupby("file", sort=False):
        try:
            slide = open_slide(Path(str(file)), image_options)
            scale, doubts = resolve_scale(slide, options.um_per_px)
            if scale is None:
                raise ValueError(f"{Path(str(file)).name}: does not state its scale; give --um-per-px")
        except ValueError as error:
            problems.add(f"{rows['where'].iloc[0]}: {error}")
            continue
        notes += [f"{Path(str(file)).name}: {note}" for note in [slide.note, *doubts] if note]
        collect_points_outside(rows, Path(str(file)).name, slide.width, slide.height, problems)
        for row, x, y in zip(rows.index, rows["x"], rows["y"], strict=True):
            if problems.messages:
                break
            crop = cut(slide, x, y, spec, geometry.um_per_px / scale)
            if isinstance(crop, Crop):
                yield row, crop.pixels
            else:
                left_out[row] = crop.replace("cells whose", "its")


def _describe(geometry: Geometry) -> str:
    margin = f", a margin of {geometry.margin_px} px on each side included" if geometry.margin_px else ""
    scale = f", at {geometry.um_per_px:g} um/px" if geometry.um_per_px else ""
    return f"{geometry.side_px} px{margin}{scale}"
