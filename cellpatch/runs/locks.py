"""Locks of runs: one process writes a run, the others wait for it or skip it; a failure leaves its traceback."""

import os
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import AcquireReturnProxy, FileLock

from cellpatch.runs.folders import RECORD
from cellpatch.runtime.atomic_io import atomic_directory, atomic_write, file_lock
from cellpatch.runtime.errors import SHARING, not_writable, owner_of


class ConcurrentFailureError(Exception):
    """Another process trained the run and failed while this one waited for it."""


@dataclass(frozen=True)
class RunFiles:
    """Where a run lies in a runs directory; `identities` are today's and those of earlier versions."""

    runs_dir: Path
    name: str
    identities: Sequence[str]

    @property
    def run(self) -> str:
        """The name of its folder."""
        return f"{self.name}-{self.identities[0]}"

    def find(self) -> Path | None:
        """The folder of the finished run, or None."""
        folders = (find_run(self.runs_dir, identity) for identity in self.identities)
        return next((folder for folder in folders if folder is not None), None)

    @property
    def checkpoint(self) -> Path:
        """Where a training with trainer.resume keeps what it needs to continue."""
        return self.runs_dir / ".progress" / f"{self.run}.ckpt"

    @property
    def failure_log(self) -> Path:
        """Where the traceback of the last failure lies."""
        return self.runs_dir / ".failed" / f"{self.run}.log"

    def failed_at(self) -> float | None:
        """When the run failed last; None if it did not since it was last finished."""
        try:
            return self.failure_log.stat().st_mtime
        except FileNotFoundError:
            return None

    def remove_traces(self) -> None:
        """Remove what earlier tries of a run that is finished now left: its failure log and its checkpoint."""
        for trace in (self.failure_log, self.checkpoint, self.checkpoint.with_name(f".{self.checkpoint.name}")):
            trace.unlink(missing_ok=True)


def find_run(runs_dir: Path, run_id: str) -> Path | None:
    """The folder of the finished run of an identity, or None."""
    folders = (folder for folder in runs_dir.glob(f"[!.]*-{run_id}") if _has_record(folder))
    return next(folders, None)


def _has_record(folder: Path) -> bool:
    try:
        return (folder / RECORD).exists()
    except PermissionError as error:
        raise ValueError(f"{folder} cannot be read: {owner_of(folder)}; {SHARING}") from error


def run_lock(runs_dir: Path, run_id: str) -> FileLock:
    """The lock that a process holds while it writes a run; it is released when the process dies."""
    return file_lock(run_lock_path(runs_dir, run_id))


def run_lock_path(runs_dir: Path, run_id: str) -> Path:
    """The file of that lock."""
    return runs_dir / f".{run_id}.lock"


def lock_to_write(runs_dir: Path, run_id: str, timeout: float = -1) -> AcquireReturnProxy:
    """Take that lock; raises filelock's Timeout, and ValueError that names the owner where this user may not write."""
    lock = run_lock_path(runs_dir, run_id)
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        return run_lock(runs_dir, run_id).acquire(timeout=timeout)
    except PermissionError as error:
        raise ValueError(not_writable(lock if lock.exists() else runs_dir)) from error


def require_writable_run(folder: Path) -> None:
    """Raise ValueError that names the owner if this user may not write into a run's folder."""
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(not_writable(folder))


@contextmanager
def claim_run(files: RunFiles, wait: bool, known_failure: float | None) -> Iterator[tuple[Path, bool]]:
    """Give the run's folder and true if it exists; else a temporary one, which becomes it on success, and false.

    While another process trains the same run, waits or raises filelock's Timeout. Raises ConcurrentFailureError if the
    run failed since `known_failure`, a time of `failed_at`, and ValueError that names the owner of what cannot be
    written: claim a run only to write. An error leaves its traceback in the failure log; a success removes it and the
    run's checkpoint.
    """
    timeout = -1 if wait else 0
    with ExitStack() as locks:
        locks.enter_context(lock_to_write(files.runs_dir, files.identities[0], timeout))
        finished = files.find()
        if finished:
            require_writable_run(finished)
        if finished and not finished.name.endswith(f"-{files.identities[0]}"):  # an earlier version's, under its lock
            own = finished.name.rpartition("-")[2]
            locks.enter_context(lock_to_write(files.runs_dir, own, timeout))
        if not finished and files.failed_at() not in (None, known_failure):
            raise ConcurrentFailureError(files.run)
        try:
            if finished:
                yield finished, True
            else:
                folder = files.runs_dir / files.run
                if folder.exists():
                    raise ValueError(f"{folder} has no record.json: it is not a finished run; move it away")
                with atomic_directory(folder) as temporary:
                    yield temporary, False
        except Exception:
            with suppress(OSError), atomic_write(files.failure_log) as file:  # a full disk has no room for it either
                file.write_text(traceback.format_exc(), encoding="utf-8")
            raise
        files.remove_traces()
