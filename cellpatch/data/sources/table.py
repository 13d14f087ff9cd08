"""Source `table`: crop images listed in a CSV or Parquet table."""

from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from cellpatch.data.sources.crop_files import CropFile, write_files
from cellpatch.data.sources.source import Source, files_fingerprint, folder_of, resolve_inside
from cellpatch.data.sources.table_checks import check_classes, read_table

SPLITS = ("train", "validation", "test")


class Table(Source):
    """Columns `path`, `class`, `specimen`; optional `cell_id` and `split` (train, validation or test).

    Paths are relative to `root` (by default the table's own folder) and must stay inside it.
    """

    def __init__(
        self,
        table: str,
        root: str | None,
        classes: list[str] | None,
        side_px: int | None,
        margin_px: int,
        um_per_px: float | None,
        licence: str,
        synthetic: bool,
    ) -> None:
        self.table = Path(table)
        self.root = folder_of(root or self.table.parent, "data.root")
        self.classes = classes
        self.side_px = side_px
        self.margin_px = margin_px
        self.um_per_px = um_per_px
        self.licence = licence
        self.synthetic = synthetic

    @cached_property
    def rows(self) -> pd.DataFrame:
        return read_table(self.table, ["path", "class", "specimen"])

    @cached_property
    def crops(self) -> list[CropFile]:
        rows = self.rows
        where = list(rows["where"])
        ids = rows["cell_id"] if "cell_id" in rows else rows["path"]
        splits: list[str | None] = list(rows["split"]) if "split" in rows else [None] * len(rows)
        for place, split in zip(where, splits, strict=True):
            if split is not None and split not in SPLITS:
                raise ValueError(f"{place}: split must be one of {list(SPLITS)}, but got {split!r}")
        return [
            CropFile(resolve_inside(self.root, path, place), str(cell), str(label), str(specimen), place, split)
            for path, cell, label, specimen, place, split in zip(
                rows["path"], ids, rows["class"], rows["specimen"], where, splits, strict=True
            )
        ]

    def describe(self) -> dict[str, Any]:
        files = [crop.file for crop in self.crops]
        return self._parameters() | {
            "files": files_fingerprint(self.root, files),
            "table": files_fingerprint(self.table.parent, [self.table]),
        }

    def _parameters(self) -> dict[str, Any]:
        names = ("classes", "side_px", "margin_px", "um_per_px", "licence", "synthetic")
        return {"kind": "table"} | {name: getattr(self, name) for name in names}

    def fill(self, folder: Path) -> None:
        classes = check_classes(self.rows, self.classes)
        write_files(folder, self.crops, classes, self._parameters(), self.side_px, self.margin_px, self.um_per_px)
