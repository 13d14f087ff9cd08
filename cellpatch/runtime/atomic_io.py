"""Files and folders that are complete or absent; folders written once by one of many processes."""

import errno
import fcntl
import glob
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from filelock import FileLock, Timeout

from cellpatch.runtime.errors import not_writable


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
    """Yield a path in a temporary folder; what is written there replaces `file` on success and is removed on any error.

    What killed processes left of the same file is removed first.
    """
    with temporary_directory(file.parent, file.name) as folder:
        temporary = folder / file.name
        yield temporary
        temporary.replace(file)


@contextmanager
def temporary_directory(parent: Path, purpose: str) -> Iterator[Path]:
    """Yield a hidden folder in `parent` that is removed at the end.

    Those that killed processes left for the same purpose are removed first. Each holds a lock of the kernel (flock)
    on its folder, seen by all machines of the file system; the number of a process means nothing on another one, and
    is given again. Where the file system has no such locks, and of other users, leftovers stay. The lock is on the
    folder: libraries lock the files that they write (HDF5).
    """
    parent.mkdir(parents=True, exist_ok=True)
    for leftover in parent.glob(f".{glob.escape(purpose)}-{'[0-9a-f]' * 8}"):
        _remove_if_left(leftover)
    folder, held = _new_held_folder(parent, purpose)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def _new_held_folder(parent: Path, purpose: str) -> tuple[Path, int]:
    """A new folder and its open descriptor, with a lock that ends with this process."""
    while True:
        folder = parent / f".{purpose}-{token_hex(4)}"
        folder.mkdir()
        try:
            held = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # another process took it for a leftover before it was locked
            continue
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if folder.exists():
                return folder, held
        except BlockingIOError:  # as above
            pass
        except OSError:  # no such locks here: nobody else can take it for a leftover either
            return folder, held
        os.close(held)


def _remove_if_left(folder: Path) -> None:
    """Remove a temporary folder that no process holds."""
    with suppress(OSError):
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        finally:
            os.close(held)


def create_once(target: Path, fill: Callable[[Path], object]) -> None:
    """Let exactly one of many processes fill the folder `target`; the others wait until it exists.

    What killed processes left of it, or of other folders beside it, is removed. Raises ValueError that names the owner
    of the parent folder if it cannot be written.
    """
    if target.exists():  # no lock: the folder may be read-only
        return
    lock = target.with_name(f".{target.name}.lock")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        held = file_lock(lock).acquire()
    except PermissionError as error:
        raise ValueError(not_writable(lock if lock.exists() else target.parent)) from error
    with held:
        if not target.exists():
            _remove_unfinished(target.parent)
            with atomic_directory(target) as temporary:
                fill(temporary)
        lock.unlink(missing_ok=True)  # who waits for it, or makes it anew, finds the target


def _remove_unfinished(folder: Path) -> None:
    """Remove what killed processes left of folders that `create_once` fills, unless their lock is held."""
    for leftover in folder.glob(".*.*.tmp"):
        name = re.fullmatch(r"\.(.+)\.\d+\.tmp", leftover.name)
        if name is None:
            continue
        with suppress(OSError, Timeout), file_lock(folder / f".{name[1]}.lock").acquire(timeout=0):
            shutil.rmtree(leftover)
            (folder / f".{name[1]}.lock").unlink(missing_ok=True)


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
