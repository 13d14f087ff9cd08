"""Image files that are crops already: check each, stream them into a store."""

import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cellpatch.data.crop_limits import MAX_SIDE_PX
from cellpatch.data.images.decoding import read_square
from cellpatch.data.images.pixels import Orientation
from cellpatch.data.sources.image_workers import decode_into
from cellpatch.data.store.digests import CropHashes
from cellpatch.data.store.intake import Contradictions, Intake
from cellpatch.data.store.reader import Geometry
from cellpatch.data.store.writer import CellRows, StoreWriter
from cellpatch.runtime.error_collector import ErrorCollector
from cellpatch.runtime.json_types import Json


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
    folder: Path,
    files: Sequence[str],
    rows: CellRows,
    classes: Sequence[str],
    source: Json,
    crop_format: CropFormat,
    intake: Intake,
) -> None:
    """Fill a store's folder from square crop files and their rows; raises one ValueError that lists every bad file."""
    margin_px = crop_format.margin_px
    side, where = _first_side(files, rows.source, crop_format)
    if side <= 2 * margin_px:
        raise ValueError(f"data.margin_px must leave a crop inside {side} px, but got {margin_px}")
    if side - 2 * margin_px < 4:
        raise ValueError(f"{where}: is {side} px wide; a crop must have at least 4 px inside its margin")
    geometry = Geometry(side - 2 * margin_px, margin_px, crop_format.um_per_px)
    problems = ErrorCollector()
    resized, orientation = crop_format.side_px is not None, crop_format.orientation
    with (
        StoreWriter(folder, classes, geometry, source, None, intake, crop_format.contradictions) as writer,
        closing(decode_into(writer.shards, files, side, resized, orientation)) as decoded,
    ):
        for part, found in decoded:
            if isinstance(found, CropHashes):
                if not problems.messages:
                    writer.add_rows(rows[part], found)
                continue
            for row, message in found.items():
                problems.add_at(rows.source[part][row], message)
        problems.raise_if_any()


def _first_side(files: Sequence[str], where: Sequence[str], crop_format: CropFormat) -> tuple[int, str]:
    """Side of the first readable file, with its name; raises one ValueError that lists all files if none is."""
    problems = ErrorCollector()
    for file, name in zip(files, where, strict=True):
        try:
            return len(read_square(file, crop_format.side_px, crop_format.orientation)), name
        except ValueError as error:
            problems.add_at(name, str(error))
    problems.raise_if_any()
    raise ValueError("no image was found")
