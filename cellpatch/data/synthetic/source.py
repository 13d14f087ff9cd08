"""Source `synthetic`: the embedded default."""

from pathlib import Path
from typing import Any

from cellpatch.data.sources.source import Source
from cellpatch.data.store.reader import Geometry
from cellpatch.data.store.writer import StoreWriter
from cellpatch.data.synthetic.plan import CLASSES, check_size
from cellpatch.data.synthetic.specimen import render

GEOMETRY = Geometry(crop_px=40, margin_px=13, um_per_px=0.25)  # the study's 10 um at 40x; margin for sigma 3.2


class Synthetic(Source):
    """SYNTHETIC cells of 16 types: at most 185,432 in 303 specimens, the same bytes for the same arguments.

    `workers` processes render; they do not change the bytes.
    """

    def __init__(self, cells: int, specimens: int, seed: int, workers: int) -> None:
        check_size(cells, specimens, seed)
        self.cells = cells
        self.specimens = specimens
        self.seed = seed
        self.workers = workers

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "synthetic",
            "synthetic": True,
            "note": "rendered, not photographed: no result on these cells is a result about patients",
            "licence": "as cellpatch",
            "cells": self.cells,
            "specimens": self.specimens,
            "seed": self.seed,
        }

    def fill(self, folder: Path) -> None:
        with StoreWriter(folder, CLASSES, GEOMETRY, self.describe()) as writer:
            stream = render(
                self.cells,
                self.specimens,
                self.seed,
                self.workers,
                GEOMETRY.crop_px,
                GEOMETRY.margin_px,
                GEOMETRY.um_per_px or 0,
            )
            for index, crops, labels, x, y in stream:
                specimen = f"synthetic{index:03d}"
                names = [f"{specimen}-{i:04d}" for i in range(len(crops))]
                writer.add(
                    crops,
                    cell_id=names,
                    label=[CLASSES[label] for label in labels],
                    specimen=[specimen] * len(names),
                    source=names,
                    x=x.tolist(),
                    y=y.tolist(),
                )
