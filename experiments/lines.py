"""A CSV to which several processes add lines, so that a long search can be cut off and shared."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from cellpatch.publish import replacing


class Lines:
    """Lines told apart by the columns `keys`; the file is replaced whole, in the order of the keys."""

    def __init__(self, file: Path, keys: Sequence[str]) -> None:
        self.file = file
        self.keys = list(keys)

    def read(self) -> pd.DataFrame:
        return pd.read_csv(self.file) if self.file.exists() else pd.DataFrame(columns=self.keys)

    def has(self, key: dict[str, Any]) -> bool:
        wanted = tuple(key[name] for name in self.keys)
        return wanted in set(self.read()[self.keys].itertuples(index=False, name=None))

    def add(self, line: dict[str, Any]) -> None:
        with FileLock(Path(tempfile.gettempdir()) / f"cellpatch-{self.file.name}.lock"):
            before = self.read()
            lines = pd.DataFrame([line]) if before.empty else pd.concat([before, pd.DataFrame([line])])
            with replacing(self.file) as temporary:
                lines.sort_values(self.keys).to_csv(temporary, index=False)
