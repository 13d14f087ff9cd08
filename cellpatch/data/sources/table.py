"""Source `table`: crop images listed in a CSV or Parquet table."""

from functools import cached_property
from pathlib import Path

import pandas as pd

from cellpatch.data.sources.crop_files import CropFile, CropFormat, write_crop_files
from cellpatch.data.sources.source import Source, files_fingerprint, folder_of, resolve_inside
from cellpatch.data.sources.table_checks import check_classes, read_table
from cellpatch.data.splits import PARTS
from cellpatch.runtime.json_types import Json


class Table(Source):
    """Columns `path`, `class`, `specimen`; optional `cell_id` and `split` (train, validation or test).

    Paths are relative to `root` (None: the table's folder) and must stay inside it. Raises ValueError that names file
    and row on a bad table or image.
    """

    def __init__(  # the signature is the schema of conf/data/table.yaml
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
        """The table with `where`: file and row."""
        return read_table(self.table, ["path", "class", "specimen"])

    @cached_property
    def crops(self) -> list[CropFile]:
        """The crop files in the table's order; raises ValueError on an unknown split or a path outside the root."""
        rows = self.rows
        ids = rows["cell_id"] if "cell_id" in rows else rows["path"]
        splits: list[str | None] = list(rows["split"]) if "split" in rows else [None] * len(rows)
        for where, split in zip(rows["where"], splits, strict=True):
            if split is not None and split not in PARTS:
                raise ValueError(f"{where}: split must be one of {list(PARTS)}, but got {split!r}")
        return [
            CropFile(resolve_inside(self.root, path, where), str(cell), str(label), str(specimen), where, split)
            for path, cell, label, specimen, where, split in zip(
                rows["path"], ids, rows["class"], rows["specimen"], rows["where"], splits, strict=True
            )
        ]

    def describe(self) -> Json:
        files = [crop.file for crop in self.crops]
        return self._parameters() | {
            "files": files_fingerprint(self.root, files),
            "table": files_fingerprint(self.table.parent, [self.table]),
        }

    def _parameters(self) -> Json:
        names = ("classes", "side_px", "margin_px", "um_per_px", "licence", "synthetic")
        return {"kind": "table"} | {name: getattr(self, name) for name in names}

    def fill(self, folder: Path) -> None:
        classes = check_classes(self.rows, self.classes)
        crop_format = CropFormat(self.side_px, self.margin_px, self.um_per_px)
        write_crop_files(folder, self.crops, classes, self._parameters(), crop_format)
