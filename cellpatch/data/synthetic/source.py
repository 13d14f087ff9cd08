"""Source `synthetic`: the default data, which needs no files."""

from pathlib import Path
from typing import Literal

from cellpatch.data.sources.source import Source
from cellpatch.data.store.reader import Geometry
from cellpatch.data.store.writer import CellRows, StoreWriter
from cellpatch.data.synthetic.cell_counts import CLASSES, check_size
from cellpatch.data.synthetic.hospitals import HOSPITALS
from cellpatch.data.synthetic.specimen import CropSize, render
from cellpatch.runtime.json_types import Json

GEOMETRY = Geometry(
    crop_px=40, margin_px=13, um_per_px=0.25
)  # 10 um at 40x, as arXiv 2603.04081; the margin feeds a blur of sigma 3.2


class Synthetic(Source):
    """SYNTHETIC cells of 16 types: at most 185,432 in 303 specimens, the same bytes for the same arguments.

    `workers` processes render; their number does not change the bytes. `hospital` is of HOSPITALS. Raises ValueError on
    impossible sizes.
    """

    def __init__(self, cells: int, specimens: int, seed: int, workers: int, hospital: Literal["a", "b"] = "a") -> None:
        check_size(cells, specimens, seed)
        self.cells = cells
        self.specimens = specimens
        self.seed = seed
        self.workers = workers
        self.hospital = hospital

    def describe(self) -> Json:
        return {
            "kind": "synthetic",
            "synthetic": True,
            "note": "rendered, not photographed: no result on these cells is a result about patients",
            "licence": "as cellpatch",
            "cells": self.cells,
            "specimens": self.specimens,
            "seed": self.seed,
            **({} if self.hospital == "a" else {"hospital": self.hospital}),  # stores of before have no such key
        }

    def fill(self, folder: Path) -> None:
        with StoreWriter(folder, CLASSES, GEOMETRY, self.describe()) as writer:
            size = CropSize(GEOMETRY.crop_px, GEOMETRY.margin_px, GEOMETRY.um_per_px or 0)
            hospital = HOSPITALS[self.hospital]
            prefix = "synthetic" if self.hospital == "a" else f"synthetic-{self.hospital}"
            rendered = render(self.cells, self.specimens, self.seed, self.workers, size, hospital)
            for index, crops, labels, x, y in rendered:
                specimen = f"{prefix}{index:03d}"
                names = [f"{specimen}-{i:04d}" for i in range(len(crops))]
                writer.add(
                    crops,
                    CellRows(
                        cell_id=names,
                        label=[CLASSES[label] for label in labels],
                        specimen=[specimen] * len(names),
                        source=names,
                        x=x.tolist(),
                        y=y.tolist(),
                    ),
                )
