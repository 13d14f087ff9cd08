"""A CSV to which several processes add lines, so that a long search can be cut off and shared."""

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock
from omegaconf import DictConfig

from cellpatch.config.instantiate import without
from cellpatch.config.schema import compose_config
from cellpatch.config.validate import check
from cellpatch.runs.identity import identity
from cellpatch.runtime.atomic_io import atomic_write

_WHERE = ("root", "points", "file", "table", "loading")


class TrialLog:
    """Lines told apart by the columns `keys` and `config`; the file is replaced whole, in the order of the keys.

    `config` is a hash of all else that a config says of a training, but where the data lie.
    """

    def __init__(self, file: Path, keys: Sequence[str]) -> None:
        self.file = file
        self.keys = [*keys, "config"]

    def read(self) -> pd.DataFrame:
        lines = pd.read_csv(self.file) if self.file.exists() else pd.DataFrame()
        return lines.reindex(columns=[*lines.columns, *(key for key in self.keys if key not in lines)])

    def has(self, key: dict[str, Any]) -> bool:
        wanted = tuple(key[name] for name in self.keys)
        return wanted in set(self.read()[self.keys].itertuples(index=False, name=None))

    def lacking(self, jobs: Iterable[tuple[dict[str, Any], list[str]]]) -> Iterator[tuple[dict[str, Any], DictConfig]]:
        """Of jobs, each its own part of the key and its overrides, those without a line: the whole key, the config."""
        for own, overrides in jobs:
            config = compose_config([*overrides, "logger=none"])
            plain = check(config)
            key = {"data": plain["data"]["name"], "flag_limit": plain["flag_limit"]}
            key |= {"epochs": plain["trainer"]["max_epochs"]} | own
            key["config"] = identity(plain, json.dumps(without(plain["data"], *_WHERE), sort_keys=True), None)
            if self.has(key):
                print(f"{own}: is there")
            else:
                yield key, config

    def add(self, line: dict[str, Any]) -> None:
        with FileLock(Path(tempfile.gettempdir()) / f"cellpatch-{self.file.name}.lock"):
            before = self.read()
            lines = pd.DataFrame([line]) if before.empty else pd.concat([before, pd.DataFrame([line])])
            with atomic_write(self.file) as temporary:
                lines.sort_values(self.keys).to_csv(temporary, index=False)
