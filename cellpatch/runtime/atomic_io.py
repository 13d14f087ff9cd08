"""Files and folders that are complete or absent; folders written once by one of many processes."""

import errno
import fcntl
import glob
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock


@contextmanager
def atomic_directory(target: Path) -> Iterator[Path]:
    """Yield a temporary sibling folder that becomes `target` on success and is removed on any error.

    Call it under a lock: it first removes what a killed process left of the same target. Raises OSError, with the
    target's path, if the disk is full.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for leftover in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)  # a child of the killed process may still write to it for a moment
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        temporary.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            raise OSError(error.errno, f"no room to write {target}; nothing was left there") from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def atomic_write(file: Path) -> Iterator[Path]:
    """Yield a temporary sibling that replaces `file` on success and is removed on any error."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{os.getpid()}.{file.name}")  # keeps the suffix, which names the format
    try:
        yield temporary
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def create_once(target: Path, fill: Callable[[Path], object]) -> None:
    """Let exactly one of many processes fill the folder `target`; the others wait until it exists."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = target.with_name(f".{target.name}.lock")
    with file_lock(lock):
        if not target.exists():
            with atomic_directory(target) as temporary:
                fill(temporary)
        lock.unlink(missing_ok=True)  # who waits for it, or makes it anew, finds the target


def file_lock(file: Path) -> FileLock:
    """The kernel's lock of a file (flock): released when its owner ends, seen by all machines on the file system.

    Acquiring it raises OSError where the file system has no such locks: a lock by a file's existence would outlive a
    machine that fails.
    """
    return FileLock(file, fallback_to_soft=False)


def is_locked(file: Path) -> bool:
    """Whether a process holds the lock of a file; needs no write permission."""
    try:
        with file.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file as hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
