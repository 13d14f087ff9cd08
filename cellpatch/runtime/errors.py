"""Errors that a grid handles apart from others, those that damaged files raise, and one that many inputs share."""

import pickle
import pwd
import struct
import zipfile
from pathlib import Path
from stat import filemode

SHARING = "docs/grids.md explains folders that several users share"


class UnavailableError(ValueError):
    """Pretrained weights are unavailable on this machine: runs that need them are skipped, other runs continue."""


# What torch's restricted unpickler raises on damaged files: seen on 300 mutations and all truncations of a legacy one.
CHECKPOINT_READ_ERRORS = (
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AssertionError,
    AttributeError,
    struct.error,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)


def check_folder(path: Path, key: str) -> None:
    """Raise ValueError that names the key if the path is not a folder."""
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except OSError as error:  # a name that is too long, or a folder above it that may not be entered
        raise ValueError(f"{key}: {path} cannot be reached ({error.strerror})") from error
    if not is_folder:
        raise ValueError(f"{key} must be a folder, but got {path}, which {'is a file' if exists else 'does not exist'}")


def owner_of(path: Path) -> str:
    """Whose a file or folder is and what others may do with it, for an error about permissions."""
    stat = path.stat()
    try:
        name = pwd.getpwuid(stat.st_uid).pw_name
    except KeyError:  # a user of another machine of the same file system
        name = f"user {stat.st_uid}"
    return f"it belongs to {name} ({filemode(stat.st_mode)})"


def not_writable(path: Path) -> str:
    """What to do about a file or folder that this user may not write."""
    return (
        f"{path} cannot be written: {owner_of(path)}. Ask its owner to give this command or to let your group write, "
        f"or choose a folder of your own; {SHARING}"
    )
