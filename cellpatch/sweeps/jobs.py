"""Jobs of a grid: what became of each, what another process was at, and how the command ends.

The grid's folder, below runs_dir/.hydra, lists its jobs. A job notes its outcome in a file of its own there,
NUMBER.json, so that the end can be told whatever process or machine it ran on, and NUMBER.log is the stack of one that
failed. A failed run also leaves its stack in runs_dir/.failed until it succeeds.
"""

import json
import logging
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from cellpatch.runs.outcome import Outcome, format_outcome
from cellpatch.runtime.atomic_io import atomic_write, file_lock, is_locked
from cellpatch.runtime.errors import UnavailableError

log = logging.getLogger(__name__)


Work = Callable[[DictConfig, bool], Outcome]  # of a config, and whether to wait for another process
_BAD = ("failed", "failed before", "cut off")
_TOLD = (*_BAD, "unavailable")
_LINES = 3  # of what a failure said, at the end
_JOBS, _LOCK = "jobs.list", "grid.lock"  # in the grid's folder: its jobs, a line each, and who is at it
_unwritten: dict[Path, Outcome] = {}  # outcomes of this process that found no room
_put_off: list[tuple[Path, Any, DictConfig]] = []  # jobs of this process that others were at


def run_job(work: Work, config: DictConfig) -> None:
    """Do one job of a grid and note what became of it; an error fails this job alone."""
    hydra = HydraConfig.get()
    place = Path(hydra.sweep.dir) / f"{hydra.job.num:04d}.json"
    in_turn = str(hydra.launcher._target_).endswith(".BasicLauncher")  # one process: others first, this one later
    _do(work, config, place, wait=not in_turn)
    if in_turn and _read(place).state == "elsewhere":
        _put_off.append((place, HydraConfig.instance().cfg, config))


def _do(work: Work, config: DictConfig, place: Path, wait: bool) -> None:
    told = " ".join(HydraConfig.get().overrides.task)
    _write(place, Outcome(told, "cut off"))
    try:
        outcome = work(config, wait)
    except UnavailableError as error:
        log.warning("unavailable: %s", error)
        outcome = Outcome(told, "unavailable", str(error).splitlines())
    except ValueError as error:
        log.error("failed: %s", error)
        outcome = _failed(told, str(error).splitlines(), place)
    except Exception:
        log.exception("failed")
        outcome = _failed(told, traceback.format_exc().splitlines()[-_LINES:], place)
    if outcome.state == "failed":
        from cellpatch.runtime.device import collect_garbage  # imports torch

        collect_garbage()  # what it held of a GPU's memory would fail the next job
    _write(place, outcome)


def _failed(told: str, said: list[str], place: Path) -> Outcome:
    stack = place.with_suffix(".log")
    try:
        stack.write_text(traceback.format_exc(), encoding="utf-8")
    except OSError as error:
        return Outcome(told, "failed", [*said, f"its stack could not be written: {error}"])
    return Outcome(told, "failed", [*said, f"its stack: {stack}"])


def _write(place: Path, outcome: Outcome) -> None:
    _unwritten.pop(place, None)
    try:
        with atomic_write(place) as temporary:
            temporary.write_text(json.dumps(asdict(outcome)), encoding="utf-8")
    except OSError:  # no room: the jobs that follow may need none, and the end is told all the same
        log.exception("%s cannot be written", place)
        _unwritten[place] = outcome


def _read(place: Path) -> Outcome:
    """What became of a job; cut off if it was never begun, or ended without a word."""
    if place in _unwritten:
        return _unwritten[place]
    if not place.exists():
        return Outcome(place.stem, "cut off")
    return Outcome(**json.loads(place.read_text(encoding="utf-8")))


def register_jobs(folder: Path, jobs: Sequence[Sequence[str]]) -> FileLock:
    """List a grid's jobs in its folder; the lock that says that somebody is at them, to be held meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / _JOBS) as temporary:
        temporary.write_text("".join(f"{' '.join(job)}\n" for job in jobs), encoding="utf-8")
    return file_lock(folder / _LOCK)


def pending_jobs(runs_dir: Path) -> list[str]:
    """Jobs that were not begun yet, of the grids that somebody is at."""
    found = []
    for file in runs_dir.glob(f".hydra/*/{_JOBS}"):
        if is_locked(file.with_name(_LOCK)):
            jobs = enumerate(file.read_text(encoding="utf-8").splitlines())
            found += [job for number, job in jobs if not file.with_name(f"{number:04d}.json").exists()]
    return found


class GridSummary(Callback):
    """Hydra's callback: a runs_dir that cannot be written is an error before all else; and the end of a grid.

    At the end it does what was put off, tells what became of all and sets the exit status.
    """

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        need_folder(Path(config.runs_dir))

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        need_folder(Path(config.runs_dir))

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        try:
            outcomes = run_deferred_jobs(Path(config.hydra.sweep.dir))
            print(format_summary(outcomes, Path(config.runs_dir)))
        except Exception:  # Hydra would make a warning of it, and the status 0
            log.exception("the grid's end cannot be told")
            sys.exit(1)
        if any(outcome.state in _BAD for outcome in outcomes):
            sys.exit(1)


def run_deferred_jobs(folder: Path) -> list[Outcome]:
    """Do what this process put off; what became of every job of the grid."""
    from cellpatch.runs.runner import train

    for place, hydra, config in _put_off:
        HydraConfig.instance().cfg = hydra
        _do(train, config, place, wait=True)
    _put_off.clear()
    outcomes = []
    for number, job in enumerate((folder / _JOBS).read_text(encoding="utf-8").splitlines()):
        outcome = _read(folder / f"{number:04d}.json")
        outcomes.append(outcome if outcome.state != "cut off" else replace(outcome, run=job))
    return outcomes


def need_folder(runs_dir: Path) -> None:
    """End the command if runs_dir cannot be made or written."""
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=runs_dir):
            pass
    except OSError as error:
        sys.exit(f"error: runs_dir={runs_dir} cannot be written: {error.strerror}")


def format_summary(outcomes: Sequence[Outcome], runs_dir: Path) -> str:
    """Lines for people: how many jobs ended how, and of each that has no run what it said; of a dry run, each job."""
    counts = Counter(outcome.state for outcome in outcomes)
    planned = counts["to train"] + counts["to evaluate"] > 0
    lines = [format_outcome(outcome) for outcome in outcomes if planned or outcome.state in _TOLD]
    lines.append(f"{len(outcomes)} jobs: {', '.join(f'{n} {state}' for state, n in sorted(counts.items()))}")
    if counts["to train"]:
        lines.append(_total(outcomes, counts["to train"], runs_dir))
    if counts["failed"] or counts["failed before"]:
        lines.append(f"retry_failed=true tries again what failed; {runs_dir}/.failed has the last stack of each run")
    if counts["cut off"]:
        lines.append("the same command goes on where it was cut off")
    return "\n".join(lines)


def _total(outcomes: Sequence[Outcome], to_train: int, runs_dir: Path) -> str:
    kind = f"earlier runs of the same model, way of adapting and input in {runs_dir}"
    costs = [(each.seconds, each.mib) for each in outcomes if each.seconds is not None and each.mib is not None]
    if not costs:
        return f"how long they take cannot be told: there are no {kind}"
    seconds, mib = map(sum, zip(*costs, strict=True))
    total = f"about {seconds / 3600:.2g} hours in one process and {mib:.3g} MiB"
    return f"{total} for {len(costs)} of {to_train} to train, by {kind}"
