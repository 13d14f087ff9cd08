"""What Hydra calls before a command's jobs and after them."""

import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, flag_override

from cellpatch.runs.folders import finished_runs
from cellpatch.sweeps.jobs import print_summary, run_deferred_jobs, summary_if_interrupted
from cellpatch.sweeps.summary import FAILURES

log = logging.getLogger(__name__)


class GridSummary(Callback):
    """Hydra's callback: an unwritable runs_dir is an error before all else; at a grid's end it prints the summary.

    At the end it also does deferred jobs, and sets the exit status.
    """

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        require_writable(Path(config.runs_dir))

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        require_writable(Path(config.runs_dir))
        _place_grid(config)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        folder, runs_dir = Path(config.hydra.sweep.dir), Path(config.runs_dir)
        try:
            with summary_if_interrupted(folder, runs_dir):
                outcomes = run_deferred_jobs(folder)
            print_summary(outcomes, runs_dir)
        except Exception:  # Hydra would make a warning of it, and the status 0
            log.exception("the summary of the grid failed")
            sys.exit(1)
        if any(outcome.state in FAILURES for outcome in outcomes):
            sys.exit(1)


def require_writable(runs_dir: Path) -> None:
    """End the command if runs_dir cannot be made or written, and has no finished runs that it could look for."""
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=runs_dir):
            pass
    except OSError as error:
        if not isinstance(error, PermissionError) or not _has_finished_runs(runs_dir):
            sys.exit(f"error: runs_dir={runs_dir} cannot be written: {error.strerror}")


def _has_finished_runs(runs_dir: Path) -> bool:
    try:
        return bool(finished_runs(runs_dir))
    except ValueError:  # it may not be read either
        return False


def _place_grid(config: DictConfig) -> None:
    """Let a grid have its folder elsewhere if this user may not write it: all of its runs may be finished."""
    try:
        Path(config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)
    except PermissionError:
        folder = tempfile.mkdtemp(prefix="cellpatch-grid-")
        log.warning("%s cannot be written: the outcomes of this grid are in %s", config.hydra.sweep.dir, folder)
        with flag_override(config.hydra, ["struct", "readonly"], False):
            config.hydra.sweep.dir = folder
            config.hydra.overrides.hydra.append(f"hydra.sweep.dir={folder}")  # each job composes its config anew
