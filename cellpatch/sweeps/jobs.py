"""Jobs of a grid: each fails alone, and a summary lists their outcomes.

The grid's folder, below runs_dir/.hydra, lists its jobs. A job writes its outcome to a file of its own there,
NUMBER.json, so that the summary is complete whatever process or machine ran it. NUMBER.log is the traceback of a job
that failed. A failed run also leaves its traceback in runs_dir/.failed until it succeeds.
"""

import json
import logging
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any

from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig

from cellpatch.runs.outcome import Outcome
from cellpatch.runtime.atomic_io import atomic_write, file_lock, is_locked
from cellpatch.runtime.errors import UnavailableError
from cellpatch.runtime.memory import collect_garbage
from cellpatch.runtime.progress import format_seconds
from cellpatch.sweeps.summary import format_summary

log = logging.getLogger(__name__)
Work = Callable[[DictConfig, bool], Outcome]  # of a config, and whether to wait for another process
_LINES = 3  # of an unexpected error's traceback, in the summary
_JOBS, _LOCK = "jobs.list", "grid.lock"  # in the grid's folder: its jobs, a line each; locked while they run


@dataclass
class _Process:
    """What this process keeps of its jobs until the grid ends.

    One instance, because Hydra calls jobs and the end of a grid through functions and objects of its own.
    """

    unwritten: dict[Path, Outcome] = field(default_factory=dict)  # outcomes that a full disk had no room for
    deferred: list[tuple[Path, Any, DictConfig]] = field(default_factory=list)  # jobs that another process was running
    logged: set[tuple[str, ...]] = field(default_factory=set)  # errors of jobs that were printed
    trained: list[float] = field(default_factory=list)  # seconds of each job that trained a run


_process = _Process()


def run_job(work: Work, config: DictConfig) -> None:
    """Do one job of a grid and write its outcome; an error fails this job alone."""
    hydra = HydraConfig.get()
    file = Path(hydra.sweep.dir) / f"{hydra.job.num:04d}.json"
    in_turn = str(hydra.launcher._target_).endswith(".BasicLauncher")  # one process: do others first, this one later
    log.info("%s", describe_position(hydra.job.num, _count_jobs(file.parent), _process.trained if in_turn else ()))
    started = time.perf_counter()
    state = _do(work, config, file, wait=not in_turn).state
    if state == "trained":
        _process.trained.append(time.perf_counter() - started)
    if in_turn and state == "locked":
        _process.deferred.append((file, HydraConfig.instance().cfg, config))


def describe_position(number: int, jobs: int, trained: Sequence[float]) -> str:
    """Where a grid is before its job `number`, and the time left as `trained` jobs took, in seconds."""
    position = f"job {number + 1} of {jobs}"
    if not trained:
        return position
    return f"{position}, at most {format_seconds(mean(trained) * (jobs - number))} left, as those trained so far took"


def _count_jobs(folder: Path) -> int:
    return len((folder / _JOBS).read_text(encoding="utf-8").splitlines())


def _do(work: Work, config: DictConfig, file: Path, wait: bool) -> Outcome:
    """Do a job and write its outcome."""
    overrides = " ".join(HydraConfig.get().overrides.task)
    _write(file, Outcome(overrides, "interrupted"))
    try:
        outcome = work(config, wait)
    except UnavailableError as error:
        outcome = Outcome(overrides, "unavailable", str(error).splitlines())
        _log(outcome, file, str(error))
    except ValueError as error:
        outcome = _failed(overrides, str(error).splitlines(), file)
        _log(outcome, file, str(error))
    except Exception:
        stack = traceback.format_exc()
        outcome = _failed(overrides, stack.splitlines()[-_LINES:], file)
        _log(outcome, file, stack.rstrip())
    if outcome.state == "failed":
        collect_garbage()  # a failed job's GPU memory would fail the next one
    _write(file, outcome)
    return outcome


def _failed(overrides: str, messages: list[str], file: Path) -> Outcome:
    log_file = file.with_suffix(".log")
    try:
        log_file.write_text(traceback.format_exc(), encoding="utf-8")
    except OSError as error:
        return Outcome(overrides, "failed", messages, traceback=f"could not be written: {error}")
    return Outcome(overrides, "failed", messages, traceback=str(log_file))


def _log(outcome: Outcome, file: Path, text: str) -> None:
    """Log a job's error, whole if no job of the grid had it before."""
    level = logging.WARNING if outcome.state == "unavailable" else logging.ERROR
    earlier = _first_with_error(outcome, file)
    if earlier is None:
        _process.logged.add(tuple(outcome.messages))
    log.log(level, "%s: %s", outcome.state, text if earlier is None else f"the same error as job #{earlier}")


def _first_with_error(outcome: Outcome, file: Path) -> int | None:
    """The number of the first other job of the grid that ended with the same error; None without one."""
    for other in sorted(file.parent.glob("[0-9]*.json")):
        known = _read(other) if other != file else None
        if known and (known.state, list(known.messages)) == (outcome.state, list(outcome.messages)):
            return int(other.stem)
    return None


def _write(file: Path, outcome: Outcome) -> None:
    _process.unwritten.pop(file, None)
    try:
        with atomic_write(file) as temporary:
            temporary.write_text(json.dumps(asdict(outcome)), encoding="utf-8")
    except OSError:  # the next jobs may need no room, and the summary is complete anyway
        log.exception("%s cannot be written", file)
        _process.unwritten[file] = outcome


def _read(file: Path) -> Outcome:
    """A job's outcome; interrupted if it never started, or ended without one."""
    if file in _process.unwritten:
        return _process.unwritten[file]
    if not file.exists():
        return Outcome(file.stem, "interrupted")
    return Outcome(**json.loads(file.read_text(encoding="utf-8")))


def register_jobs(folder: Path, jobs: Sequence[Sequence[str]]) -> FileLock:
    """List a grid's jobs in its folder; gives the lock to hold while they run."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / _JOBS) as temporary:
        temporary.write_text("".join(f"{' '.join(job)}\n" for job in jobs), encoding="utf-8")
    return file_lock(folder / _LOCK)


def launch_jobs(launcher: Any, jobs: Sequence[Sequence[str]], first: int) -> Any:
    """Let a launcher of Hydra do jobs, numbered from `first`; a launcher that fails because a worker died is logged."""
    try:
        return launcher.launch(jobs, initial_job_idx=first)
    except HydraException:
        raise
    except Exception:
        log.exception("the launcher ended before its jobs did")
        return []


def pending_jobs(runs_dir: Path) -> list[str]:
    """Jobs that have not started yet, of the grids that run now."""
    pending = []
    for file in runs_dir.glob(f".hydra/*/{_JOBS}"):
        if is_locked(file.with_name(_LOCK)):
            jobs = enumerate(file.read_text(encoding="utf-8").splitlines())
            pending += [job for number, job in jobs if not file.with_name(f"{number:04d}.json").exists()]
    return pending


@contextmanager
def summary_if_interrupted(folder: Path, runs_dir: Path) -> Iterator[None]:
    """Print the summary of a grid that Ctrl-C or SIGTERM ends; jobs that never started count as interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        print_summary(_read_outcomes(folder), runs_dir)
        raise


def print_summary(outcomes: Sequence[Outcome], runs_dir: Path) -> None:
    """Print how a grid's jobs ended; errors that this process has logged are not repeated."""
    print(format_summary(outcomes, runs_dir, _process.logged))


def run_deferred_jobs(folder: Path) -> list[Outcome]:
    """Do the jobs that this process deferred; gives the outcome of every job of the grid."""
    from cellpatch.sweeps.train import train

    before = HydraConfig.instance().cfg
    for file, hydra, config in _process.deferred:
        HydraConfig.instance().cfg = hydra
        _do(train, config, file, wait=True)
    HydraConfig.instance().cfg = before
    _process.deferred.clear()
    return _read_outcomes(folder)


def _read_outcomes(folder: Path) -> list[Outcome]:
    outcomes = []
    for number, job in enumerate((folder / _JOBS).read_text(encoding="utf-8").splitlines()):
        outcome = _read(folder / f"{number:04d}.json")
        outcomes.append(outcome if outcome.state != "interrupted" else replace(outcome, run=job))
    return outcomes
