"""Errors that a grid handles apart from others, those that damaged files raise, and one that many inputs share."""

import struct
from pathlib import Path


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
)


def check_folder(path: Path, key: str) -> None:
    """Raise ValueError that names the key if the path is not a folder."""
    if not path.is_dir():
        why = "is a file" if path.exists() else "does not exist"
        raise ValueError(f"{key} must be a folder, but got {path}, which {why}")
