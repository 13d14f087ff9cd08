"""The trackers of one run while it is trained and after it: an error in one of them never costs the run."""

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Protocol, runtime_checkable

from cellpatch.data.dataset import CellDataset
from cellpatch.runs.stored_run import StoredRun
from cellpatch.runs.tracking.about import About
from cellpatch.runs.tracking.settings import Csv, Mlflow, TrackerSettings, Wandb, name_of

log = logging.getLogger(__name__)


@runtime_checkable
class Tracker(Protocol):
    """Where a run is shown.

    `log_round` gets each row of a training's history, `finish` the stored run, with its cells where they are at hand.
    """

    def log_round(self, row: Mapping[str, float]) -> None: ...

    def finish(self, run: StoredRun, dataset: CellDataset | None) -> None: ...

    def close(self, failed: bool) -> None: ...


class Tracking:
    """The trackers of one run, as a context manager that closes them.

    A tracker that fails is closed and left out from then on; `warnings` has its error by its name.
    """

    def __init__(self, trackers: Sequence[TrackerSettings]) -> None:
        self._settings = list(trackers)
        self._open: dict[str, Tracker] = {}
        self._folder: Path | None = None
        self.warnings: dict[str, str] = {}

    def __enter__(self) -> "Tracking":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._close(failed=kind is not None)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def start(self, about: About) -> None:
        """Open the trackers; what a killed process left in `about.folder` is removed."""
        if not self._settings:
            return
        self._folder = about.folder
        shutil.rmtree(about.folder, ignore_errors=True)
        about.folder.mkdir(parents=True)
        self._start(about)

    def log_round(self, row: Mapping[str, float]) -> None:
        """Show a row of the training's history."""
        self._each(lambda tracker: tracker.log_round(row))

    def finish(self, run: StoredRun, dataset: CellDataset | None) -> StoredRun:
        """Show a run that is on disk, move the trackers' files into its folder, and note in its record what failed."""
        if self._folder is None:
            return run
        logged = self._finish(run, dataset)
        for file in sorted(self._folder.iterdir()):
            file.replace(run.folder / file.name)
        return run.with_tracking(logged, list(self.warnings.values()))

    def show(self, run: StoredRun, dataset: CellDataset | None, anew: bool) -> StoredRun:
        """Show a stored run: anew with the curve of its training, or what came to it later; notes in its record that
        it is shown, or what failed.
        """
        self._start(About(run.name, run.record.identity, run.record.settings, run.folder, run.folder.parent, anew))
        for row in (run.record.history or []) if anew else []:
            self.log_round(row)
        return run.with_tracking(self._finish(run, dataset), list(self.warnings.values()))

    def _start(self, about: About) -> None:
        for settings in self._settings:
            name = name_of(settings)
            try:
                self._open[name] = _open(settings, about)
            except Exception as error:
                self._warn(name, error)

    def _finish(self, run: StoredRun, dataset: CellDataset | None) -> list[str]:
        self._each(lambda tracker: tracker.finish(run, dataset))
        return self._close(failed=False)

    def _close(self, failed: bool) -> list[str]:
        """Close all; gives the names of those that did not fail."""
        self._each(lambda tracker: tracker.close(failed))
        closed = list(self._open)
        self._open.clear()
        return closed

    def _each(self, work: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._open.items()):
            try:
                work(tracker)
            except Exception as error:  # a library's, or its server's: the run goes on
                del self._open[name]
                self._warn(name, error)
                with suppress(Exception):  # it failed already
                    tracker.close(failed=True)

    def _warn(self, name: str, error: Exception) -> None:
        first = (str(error).strip().splitlines() or ["no message"])[0]
        self.warnings[name] = f"logger={name} failed, and the run goes on without it: {type(error).__name__}: {first}"
        log.warning("%s", self.warnings[name])
        log.debug("its traceback", exc_info=error)


def _open(settings: TrackerSettings, about: About) -> Tracker:
    # the libraries take seconds to import
    if isinstance(settings, Wandb):
        from cellpatch.runs.tracking.wandb_tracker import WandbTracker

        return WandbTracker(settings, about)
    if isinstance(settings, Mlflow):
        from cellpatch.runs.tracking.mlflow_tracker import MlflowTracker

        return MlflowTracker(settings, about)
    from cellpatch.runs.tracking.scalar_trackers import CsvTracker, TensorBoardTracker

    return CsvTracker(about) if isinstance(settings, Csv) else TensorBoardTracker(about)
