"""The runs that somebody names: run folders, folders of runs, and what is not a run."""

import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path

from cellpatch.runtime.errors import check_folder, owner_of

RECORD = "record.json"
log = logging.getLogger(__name__)


def finished_runs(runs_dir: Path) -> list[Path]:
    """The folders of finished runs, by name: those with a record, and those named as runs are, whose record is missing.

    Raises ValueError if `runs_dir` is not a folder, or cannot be read.
    """
    check_folder(runs_dir, "runs_dir")
    try:
        with os.scandir(runs_dir) as entries:  # glob passes over what it may not read
            names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
        return [folder for folder in (runs_dir / name for name in names) if is_run(folder)]
    except OSError as error:
        raise ValueError(f"runs_dir: {runs_dir} cannot be read ({error.strerror}); {owner_of(runs_dir)}") from error


def is_run(folder: Path) -> bool:
    """Whether a folder has a record, or is named as a run is; its record may be missing or unreadable."""
    if re.search(r"-[0-9a-f]{12}$", folder.name) and folder.is_dir():
        return True
    return os.path.lexists(folder / RECORD)


def named_runs(paths: Iterable[Path]) -> list[Path]:
    """The run folders among `paths`, and those in the folders of runs among them, each once.

    What is not a run is logged and skipped: a file, another folder, the rest of an interrupted training. Raises
    ValueError for a path that does not exist.
    """
    runs: dict[Path, None] = {}
    for path in paths:
        if not _exists(path):
            raise ValueError(f"{path} must be a run or a folder of runs, but nothing is there")
        found = _runs_at(path)
        runs |= dict.fromkeys(found)
        if not found:
            log.warning("skipped %s: not a run, and no runs in it", path)
    return list(runs)


def require_runs(paths: Iterable[Path]) -> list[Path]:
    """As `named_runs`; raises ValueError if there are none."""
    paths = list(paths)
    runs = named_runs(paths)
    if not runs:
        inside = sorted({file.parent.parent for path in paths for file in path.glob(f"*/*/{RECORD}")})
        hint = f"; {inside[0]} has some" if inside else ": train some first, e.g. make run"
        raise ValueError(f"{', '.join(map(str, paths))} has no finished run{hint}")
    return runs


def require_one_run(path: Path) -> Path:
    """The run at `path`, or the only one in a folder of runs; raises ValueError if it has none or several."""
    runs = require_runs([path])
    if len(runs) > 1:
        names = ", ".join(str(run) for run in runs[:3]) + (", ..." if len(runs) > 3 else "")
        raise ValueError(f"{path} holds {len(runs)} runs and one is needed: name one of {names}")
    return runs[0]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror})") from error


def _runs_at(path: Path) -> list[Path]:
    if not path.is_dir() or (path.name.startswith(".") and path.name.endswith(".tmp")):
        return []
    return [path] if is_run(path) else finished_runs(path)
