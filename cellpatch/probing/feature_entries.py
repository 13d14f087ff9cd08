"""Entries of the feature cache on disk: a folder NAME-DIGEST each, with features.npy and key.json."""

import json
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np
from filelock import Timeout
from jaxtyping import Float
from pydantic import JsonValue

from cellpatch.runtime.atomic_io import file_lock, sha256_of

FEATURES, KEY = "features.npy", "key.json"
_FILES = {FEATURES, KEY}


def find_entry(cache: Path, digest: str) -> Path | None:
    """The entry with a digest, whatever its name and whether or not it is complete."""
    return min(cache.glob(f"[!.]*-{digest}"), default=None)


def is_complete(entry: Path) -> bool:
    """Whether an entry has all of its files."""
    return all((entry / file).exists() for file in _FILES)


def write_key(entry: Path, key: Mapping[str, JsonValue]) -> None:
    """Write key.json: what the features depend on, and their checksum."""
    facts = {"content": dict(key), "sha256": sha256_of(entry / FEATURES)}
    (entry / KEY).write_text(json.dumps(facts, indent=1), encoding="utf-8")


@lru_cache(maxsize=32)  # a cache: checksums of gigabytes take seconds, and every job of a grid opens the same
def open_entry(entry: Path) -> Float[np.ndarray, "n d"]:
    """The memory-mapped features of an entry, checked once per process; raises ValueError if they were altered."""
    try:
        sha256 = json.loads((entry / KEY).read_text(encoding="utf-8"))["sha256"]
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{entry}: {KEY} cannot be read ({error}): delete the folder") from error
    if sha256_of(entry / FEATURES) != sha256:
        raise ValueError(f"{entry}: the checksum of {FEATURES} differs from {KEY}: delete the folder")
    return np.load(entry / FEATURES, mmap_mode="r", allow_pickle=False)


def list_entries(cache: Path) -> dict[str, int]:
    """Names and bytes of all entries, and of what killed processes left of some; other folders are not listed."""
    return {folder.name: _size(folder) for folder in sorted(cache.glob("*/")) if _is_entry(folder)}


def bytes_of_features(cache: Path) -> int:
    """Bytes of all features in a cache."""
    return sum(_bytes(file) for file in cache.glob(f"*/{FEATURES}"))


def clear_entry(entry: Path) -> bool:
    """Delete an entry, or what a killed process left of one; returns False if another process holds its lock."""
    digest = re.sub(r"\.\d+\.tmp$", "", entry.name).rpartition("-")[2]
    try:
        with file_lock(entry.with_name(f".{digest}.lock")).acquire(timeout=0):
            delete_entry(entry)
    except Timeout:
        return False
    return True


def delete_entry(entry: Path) -> None:
    """Delete an entry whose lock the caller holds, if it still exists.

    A process that is killed meanwhile leaves what counts as incomplete.
    """
    with suppress(FileNotFoundError):
        if entry.is_symlink():  # its target may be anything
            entry.unlink()
            return
        if not entry.name.startswith("."):
            hidden = entry.with_name(f".{entry.name}.{os.getpid()}.tmp")
            shutil.rmtree(hidden, ignore_errors=True)  # a killed process of this number left it
            entry = entry.rename(hidden)
        shutil.rmtree(entry)


def _is_entry(folder: Path) -> bool:
    """Whether a folder is an entry, or what is left of one; a folder with any other file is not."""
    named = re.search(r"-[0-9a-f]{12}(\.\d+\.tmp)?$", folder.name)
    try:
        return named is not None and {file.name for file in folder.iterdir()} <= _FILES
    except FileNotFoundError:  # deleted meanwhile
        return False


def _size(folder: Path) -> int:
    return sum(_bytes(folder / file) for file in _FILES)


def _bytes(file: Path) -> int:
    """0 for a file that does not exist: another process may have deleted or renamed it a moment ago."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
