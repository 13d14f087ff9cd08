"""Image files that are crops already: check each, stream them into a store."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from cellpatch.data.crop_limits import MAX_SIDE_PX
from cellpatch.data.images.decoding import decode
from cellpatch.data.images.pixels import Orientation
from cellpatch.data.store.intake import Contradictions, Intake
from cellpatch.data.store.reader import Geometry
from cellpatch.data.store.writer import CellRows, StoreWriter
from cellpatch.runtime.error_collector import ErrorCollector
from cellpatch.runtime.json_types import Json

_CHUNK = 64  # crops added to the writer together


@dataclass(frozen=True)
class CropFile:
    """One crop on disk with its annotation; `where` is how errors name it: file and row."""

    file: Path
    cell_id: str
    label: str
    specimen: str
    where: str
    split: str | None = None
    site: str | None = None


@dataclass(frozen=True)
class CropFormat:
    """Side and scale of crop files.

    `side_px` None takes the side of the first readable file and refuses others; a number resizes all to it. `margin_px`
    of that side, on each side, lie around the crop proper. `um_per_px` None: the scale is unknown. `orientation` and
    `contradictions` as in ImageOptions and StoreWriter. Raises ValueError for a number out of range.
    """

    side_px: int | None
    margin_px: int
    um_per_px: float | None
    orientation: Orientation = "refuse"
    contradictions: Contradictions = "refuse"

    def __post_init__(self) -> None:
        if self.side_px is not None and not 4 <= self.side_px <= MAX_SIDE_PX:
            raise ValueError(f"data.side_px must be null or from 4 to {MAX_SIDE_PX}, but got {self.side_px}")
        if self.margin_px < 0:
            raise ValueError(f"data.margin_px must be >= 0, but got {self.margin_px}")
        if self.um_per_px is not None and not 0 < self.um_per_px < math.inf:
            raise ValueError(f"data.um_per_px must be null or > 0, but got {self.um_per_px}")


def write_crop_files(
    folder: Path, crops: list[CropFile], classes: list[str], source: Json, crop_format: CropFormat, intake: Intake
) -> None:
    """Fill a store's folder from square crop files; raises one ValueError that lists every bad file."""
    margin_px = crop_format.margin_px
    problems = ErrorCollector()
    decoded = decode(
        [(crop.file, crop.where) for crop in crops], crop_format.side_px, problems, crop_format.orientation
    )
    first = next(decoded, None)
    if first is None:
        problems.raise_if_any()
        raise ValueError("no image was found")
    side = first[1].shape[0]
    if side <= 2 * margin_px:
        raise ValueError(f"data.margin_px must leave a crop inside {side} px, but got {margin_px}")
    if side - 2 * margin_px < 4:
        raise ValueError(
            f"{crops[first[0]].where}: is {side} px wide; a crop must have at least 4 px inside its margin"
        )
    geometry = Geometry(side - 2 * margin_px, margin_px, crop_format.um_per_px)
    writer = StoreWriter(folder, classes, geometry, source, None, intake, crop_format.contradictions)
    with writer:
        chunk = [(crops[first[0]], first[1])]
        for i, rgb in decoded:
            if rgb.shape[0] != side:
                problems.add(
                    f"{crops[i].where}: is {rgb.shape[0]} px wide, the first image {side} px; "
                    f"set data.side_px to resize all"
                )
            elif not problems.messages:
                chunk.append((crops[i], rgb))
            if len(chunk) == _CHUNK:
                _add(writer, chunk)
                chunk = []
        problems.raise_if_any()
        if chunk:
            _add(writer, chunk)


def _add(writer: StoreWriter, chunk: list[tuple[CropFile, UInt8[np.ndarray, "s s 3"]]]) -> None:
    files = [item[0] for item in chunk]
    splits = [file.split for file in files]
    writer.add(
        np.stack([item[1] for item in chunk]),
        CellRows(
            cell_id=[file.cell_id for file in files],
            label=[file.label for file in files],
            specimen=[file.specimen for file in files],
            source=[file.where for file in files],
            split=None if splits[0] is None else splits,
            site=None if files[0].site is None else [file.site for file in files],
        ),
    )
