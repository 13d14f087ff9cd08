"""Source `table`: crop images listed in a CSV or Parquet table."""

from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import pandas as pd

from cellpatch.data.class_names import join_names
from cellpatch.data.images.pixels import Orientation
from cellpatch.data.paths import path_inside
from cellpatch.data.sources.crop_files import CropFormat, write_crop_files
from cellpatch.data.sources.source import Source, files_fingerprint, folder_of
from cellpatch.data.store.intake import Contradictions, Intake
from cellpatch.data.store.writer import CellRows
from cellpatch.data.tables import check_classes, check_named, check_splits, read_table
from cellpatch.runtime.json_types import Json


class Table(Source):
    """Columns `path`, `class`, `specimen`; optional `cell_id`, `site` and `split` (train, validation or test).

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
        orientation: Orientation,
        contradictions: Contradictions,
        licence: str,
        synthetic: bool,
    ) -> None:
        self.table = Path(table)
        self.root = folder_of(root or self.table.parent, "data.root")
        self.classes = classes
        self.crop_format = CropFormat(side_px, margin_px, um_per_px, orientation, contradictions)
        self.licence = licence
        self.synthetic = synthetic
        self._intake = Intake()

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The table with `where`: file and row; class names are cleaned and joined."""
        rows = read_table(self.table, ["path", "class", "specimen"])
        check_named(rows)
        rows["class"] = join_names(list(rows["class"]), self._intake)
        if "split" in rows:
            check_splits(rows)
        return rows

    @cached_property
    def files(self) -> list[str]:
        """The crop files in the table's order; raises ValueError on a path outside the root."""
        paths = (path.replace("\\", "/") for path in self.rows["path"])
        return [path_inside(self.root, path, where) for path, where in zip(paths, self.rows["where"], strict=True)]

    def describe(self) -> Json:
        return self._parameters() | {
            "files": files_fingerprint(self.root, self.files),
            "table": files_fingerprint(self.table.parent, [self.table]),
        }

    def _parameters(self) -> Json:
        own = {"kind": "table", "classes": self.classes, "licence": self.licence, "synthetic": self.synthetic}
        return own | asdict(self.crop_format)

    def fill(self, folder: Path) -> None:
        classes = check_classes(self.rows, self.classes)
        table, intake = self.rows, self._intake.copy()
        rows = CellRows(
            cell_id=list(map(str, table["cell_id" if "cell_id" in table else "path"])),
            label=list(table["class"]),
            specimen=list(map(str, table["specimen"])),
            source=list(table["where"]),
            split=list(table["split"]) if "split" in table else None,
            site=list(table["site"]) if "site" in table else None,
        )
        write_crop_files(folder, self.files, rows, classes, self._parameters(), self.crop_format, intake)
