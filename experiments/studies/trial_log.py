"""A CSV to which several processes add lines, so that a long search can be interrupted and shared."""

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd
from filelock import FileLock
from omegaconf import DictConfig

from cellpatch.config.assemble import assemble
from cellpatch.config.schema import compose_config
from cellpatch.runs import legacy
from cellpatch.runs.experiment import Experiment
from cellpatch.runs.identity import effective_settings
from cellpatch.runs.training_code import TRAINING_CODE
from cellpatch.runtime.atomic_io import atomic_write

Line = dict[str, str | int | float]
_LOCATION = ("root", "points", "file", "table", "loading")


class TrialLog:
    """Lines that differ in the columns `keys` and `config`; the file is replaced whole, in the order of the keys.

    `config` is a hash of all else that a config states of a training, but where the data lie.
    """

    def __init__(self, file: Path, keys: Sequence[str]) -> None:
        self.file = file
        self.keys = [*keys, "config"]

    def read(self) -> pd.DataFrame:
        lines = pd.read_csv(self.file) if self.file.exists() else pd.DataFrame()
        return lines.reindex(columns=[*lines.columns, *(key for key in self.keys if key not in lines)])

    def has(self, key: Mapping[str, str | int | float]) -> bool:
        wanted = tuple(key[name] for name in self.keys)
        return wanted in set(self.read()[self.keys].itertuples(index=False, name=None))

    def missing(self, jobs: Iterable[tuple[Line, list[str]]]) -> Iterator[tuple[Line, DictConfig]]:
        """The whole key and the config of the jobs without a line; a job is its own part of the key, and overrides."""
        for own, overrides in jobs:
            config = compose_config([*overrides, "logger=none"])
            experiment = assemble(config)
            epochs = experiment.trainer.max_epochs
            if epochs is None:
                raise ValueError("trainer.max_epochs must be given: lines of this log are by epochs")
            key: Line = {"data": experiment.data.name, "flag_limit": experiment.flag_limit}
            key |= {"epochs": epochs} | own | {"config": _config_hash(experiment)}
            if self.has(key):
                print(f"{own}: exists")
            else:
                yield key, config

    def add(self, line: Line) -> None:
        with FileLock(Path(tempfile.gettempdir()) / f"cellpatch-{self.file.name}.lock"):
            before = self.read()
            lines = pd.DataFrame([line]) if before.empty else pd.concat([before, pd.DataFrame([line])])
            with atomic_write(self.file) as temporary:
                lines.sort_values(self.keys).to_csv(temporary, index=False)


def _config_hash(experiment: Experiment) -> str:
    """As 0.3.0 hashed it, so that kept lines stay valid; the number of the training code joins once it is raised."""
    config = legacy.from_current(effective_settings(experiment.settings.config))
    data = {key: value for key, value in config["data"].items() if key not in _LOCATION}
    version = legacy.VERSION if TRAINING_CODE == 1 else f"{legacy.VERSION}, training code {TRAINING_CODE}"
    return legacy.identity(config, json.dumps(data, sort_keys=True), None, version)
