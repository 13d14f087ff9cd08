"""Trackers that show numbers alone, by Lightning's loggers: CSV and TensorBoard."""

from collections.abc import Mapping
from typing import Any

from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.loggers.logger import Logger

from cellpatch.data.dataset import CellDataset
from cellpatch.runs.stored_run import StoredRun
from cellpatch.runs.tracking.about import About
from cellpatch.runs.tracking.facts import curve_row, hyperparameters, numbers


class ScalarTracker:
    """A tracker that is one of Lightning's loggers: rows of the training by their update, then the run's numbers."""

    def __init__(self, logger: Logger) -> None:
        self._logger: Any = logger

    def log_round(self, row: Mapping[str, float]) -> None:
        self._logger.log_metrics(curve_row(row), step=int(row["update"]))

    def finish(self, run: StoredRun, dataset: CellDataset | None) -> None:
        self._logger.log_hyperparams(hyperparameters(run.record))
        self._logger.log_metrics(numbers(run.record), step=run.record.updates or 0)

    def close(self, failed: bool) -> None:
        self._logger.finalize("failed" if failed else "success")


class CsvTracker(ScalarTracker):
    """metrics.csv and hparams.yaml in csv/version_N of the run's folder; a later measurement is the next N."""

    def __init__(self, about: About) -> None:
        super().__init__(CSVLogger(about.folder, name="csv"))


class TensorBoardTracker(ScalarTracker):
    """A file of events in tensorboard/ of the run's folder."""

    def __init__(self, about: About) -> None:
        super().__init__(TensorBoardLogger(about.folder, name="tensorboard", version="", default_hp_metric=False))

    def finish(self, run: StoredRun, dataset: CellDataset | None) -> None:
        """Hyperparameters and the test's macro-F1 together: TensorBoard's page of hyperparameters needs both."""
        found = numbers(run.record)
        self._logger.log_metrics(found, step=run.record.updates or 0)
        self._logger.log_hyperparams(hyperparameters(run.record), {"test/macro_f1": found["test/macro_f1"]})
