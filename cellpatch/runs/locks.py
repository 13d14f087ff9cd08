"""Who is at a run: one process writes it, the others wait or leave it; what failed leaves a trace."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from cellpatch.runtime.atomic_io import atomic_directory, atomic_write, file_lock


def find_run(runs_dir: Path, run_id: str) -> Path | None:
    """The folder of a finished run, or None."""
    found = [folder for folder in runs_dir.glob(f"[!.]*-{run_id}") if (folder / "record.json").exists()]
    return found[0] if found else None


def run_lock(runs_dir: Path, run_id: str) -> FileLock:
    """What a process holds while it writes a run; the lock dies with its owner."""
    return file_lock(run_lock_path(runs_dir, run_id))


def run_lock_path(runs_dir: Path, run_id: str) -> Path:
    """The file of that lock."""
    return runs_dir / f".{run_id}.lock"


class ConcurrentFailureError(Exception):
    """Another process tried the run and failed while this one waited for it."""


@contextmanager
def claim_run(runs_dir: Path, name: str, run_id: str, wait: bool, known: float | None) -> Iterator[tuple[Path, bool]]:
    """Give the run's folder and true if it exists; else a temporary one, which becomes it on success, and false.

    While another process trains the same run, waits or raises filelock's Timeout. Raises ConcurrentFailureError if the
    run failed since `known`, a time of `failed_at`. An error leaves its traceback in `failure_log_path`; a success
    removes it and the run's checkpoint.
    """
    runs_dir.mkdir(parents=True, exist_ok=True)
    run = f"{name}-{run_id}"
    with run_lock(runs_dir, run_id).acquire(timeout=-1 if wait else 0):
        finished = find_run(runs_dir, run_id)
        if not finished and failed_at(runs_dir, run) not in (None, known):
            raise ConcurrentFailureError(run)
        try:
            if finished:
                yield finished, True
            else:
                if (runs_dir / run).exists():
                    raise ValueError(f"{runs_dir / run} has no record.json: it is no whole run, move it away")
                with atomic_directory(runs_dir / run) as temporary:
                    yield temporary, False
        except Exception:
            with suppress(OSError), atomic_write(failure_log_path(runs_dir, run)) as file:  # no room for a stack either
                file.write_text(traceback.format_exc(), encoding="utf-8")
            raise
        progress = checkpoint_path(runs_dir, run)
        for left in (failure_log_path(runs_dir, run), progress, progress.with_name(f".{progress.name}")):
            left.unlink(missing_ok=True)


def failed_at(runs_dir: Path, run: str) -> float | None:
    """When a run failed last, None if it did not since it was last whole."""
    try:
        return failure_log_path(runs_dir, run).stat().st_mtime
    except FileNotFoundError:
        return None


def checkpoint_path(runs_dir: Path, name: str) -> Path:
    """Where a run that is being trained with trainer.resume keeps what it takes to go on."""
    return runs_dir / ".progress" / f"{name}.ckpt"


def failure_log_path(runs_dir: Path, name: str) -> Path:
    """Where the stack of a run's failure is, if it failed last time."""
    return runs_dir / ".failed" / f"{name}.log"
