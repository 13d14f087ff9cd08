"""The interface of all sources: a source describes itself and fills the folder of a cell store."""

import hashlib
import json
import logging
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from stat import S_ISDIR

from cellpatch.data.images.walk import by_parts
from cellpatch.data.store.reader import FORMAT_VERSION
from cellpatch.runtime.atomic_io import create_once
from cellpatch.runtime.errors import check_folder
from cellpatch.runtime.json_types import Json

log = logging.getLogger(__name__)


class Source(ABC):
    """One kind of input."""

    @abstractmethod
    def describe(self) -> Json:
        """Everything that determines the store's bytes."""

    @abstractmethod
    def fill(self, folder: Path) -> None:
        """Write the store's files."""


def prepare_store(source: Source, name: str, store_dir: Path) -> Path:
    """Write the source's store unless it exists, and return its folder.

    Warns, before a second store of the same cells is written, what another name changes.
    """
    target = store_path(source, name, store_dir)
    if not target.exists():
        for other in _other_names(target):
            log.warning(
                "%s holds the same cells as data.name=%s: data.name=%s prepares a second copy, and figures and tables "
                "show runs of the two names as two data sets. Runs that exist keep their name. data.name=%s goes on "
                "with them",
                store_dir,
                other,
                name,
                other,
            )
        log.info("preparing %s, once", target)
    create_once(target, source.fill)
    return target


def store_path(source: Source, name: str, store_dir: Path) -> Path:
    """The folder of the source's store.

    Its name contains a hash of the source's description. Another parameter or an edited input file gives another store,
    so a stale one is never used.
    """
    text = json.dumps([FORMAT_VERSION, source.describe()], sort_keys=True, default=str)
    return store_dir / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def _other_names(own: Path) -> list[str]:
    """The names under which stores of the same source, settings and files exist, beside this store."""
    digest = own.name.rpartition("-")[2]
    stores = sorted(own.parent.glob(f"[!.]*-{digest}/manifest.json"))
    return [file.parent.name.removesuffix(f"-{digest}") for file in stores if file.parent != own]


def files_fingerprint(root: Path, files: Iterable[str | Path]) -> str:
    """Hash of the files' relative paths, sizes and times of change: differs once an input was edited."""
    ordered = sorted(map(str, files), key=by_parts)
    paths = relative_paths(root, ordered)
    lines = [f"{path}\0{file_state(file)}\n" for path, file in zip(paths, ordered, strict=True)]
    return hashlib.sha256(os.fsencode("".join(lines))).hexdigest()  # names may not be UTF-8


def file_state(file: str | Path) -> str:
    """What differs once a file was edited: size and time of change; of a folder (OME-Zarr), of all files in it."""
    try:
        stat = os.stat(file)  # noqa: PTH116 (faster on hundreds of thousands of names)
    except OSError:
        return "absent"
    if S_ISDIR(stat.st_mode):
        return files_fingerprint(Path(file), [each for each in Path(file).rglob("*") if each.is_file()])
    return f"{stat.st_size}\0{stat.st_mtime_ns}"


def relative_paths(root: Path, files: Iterable[str]) -> list[str]:
    """Each file's path relative to `root`, joined by `/`; `Path.relative_to` takes seconds for a study's files."""
    prefix = len(str(root / "x")) - 1  # with the separator, which "" and "/" do not add
    return [file[prefix:].replace(os.sep, "/") for file in files]


def specimen_regex(pattern: str | None) -> re.Pattern[str] | None:
    """Compile `data.specimen_pattern`; raises ValueError if it is not a regular expression or has no group."""
    if pattern is None:
        return None
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"data.specimen_pattern {pattern!r} is not a regular expression: {error}") from error
    if not regex.groups:
        raise ValueError(f"data.specimen_pattern {pattern!r} needs a group in parentheses: the specimen")
    return regex


def folder_of(root: str | Path, key: str) -> Path:
    """`root` as a Path; raises ValueError if it is not a folder."""
    path = Path(root).expanduser()
    check_folder(path, key)
    return path
