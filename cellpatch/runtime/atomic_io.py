"""Files and folders that are whole or absent; folders written once by one of many processes."""

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
    """Give a temporary sibling folder that becomes `target` on success and vanishes on any error.

    Call it under a lock: what a killed process left of the same target is swept away first.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        shutil.rmtree(left, ignore_errors=True)  # a child of the killed process may write there for a moment yet
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
    """Give a temporary sibling that replaces `file` on success and vanishes on any error."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{os.getpid()}.{file.name}")  # keeps the ending, which says the format
    try:
        yield temporary
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def create_once(target: Path, fill: Callable[[Path], object]) -> None:
    """Let exactly one of many processes fill the folder `target`; the others wait and find it there."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(target.with_name(f".{target.name}.lock")):
        if not target.exists():
            with atomic_directory(target) as temporary:
                fill(temporary)


def file_lock(file: Path) -> FileLock:
    """The kernel's lock of a file: it dies with its owner, on every machine that shares the file system.

    Acquiring it raises OSError where the file system has no such locks: a lock by a file's existence would outlive a
    machine that fails.
    """
    return FileLock(file, fallback_to_soft=False)


def is_locked(file: Path) -> bool:
    """Whether a process holds the lock of a file; needs no right to write."""
    try:
        with file.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def sha256_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
