"""Folders that cellpatch writes: room, permission, and locks that other processes see."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from omegaconf import OmegaConf

from cellpatch.cli.checks.finding import GIB, Finding
from cellpatch.config.conf import CONF
from cellpatch.runtime.atomic_io import file_lock

_TEST_BYTES = 2**20
_LEAST_GIB = 0.2  # below it, not even a store of a few thousand crops fits
_FEW_GIB = 5.0
_OTHER_PROCESS = """
import fcntl, sys
try:
    fcntl.flock(open(sys.argv[1], "rb"), fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit(3)
"""
_SAW_IT = 3
_ADVICE_LOCKS = "choose a file system with flock (Lustre: mount option flock, not localflock), or one local disk"


def default_folders() -> dict[str, Path]:
    """The folders that conf/ names, by their key."""
    config, loading = (OmegaConf.load(CONF / file) for file in ("config.yaml", "data/loading/resident.yaml"))
    return {
        "runs_dir": Path(config.runs_dir),
        "store_dir": Path(loading.store_dir),
        "embeddings_dir": Path(loading.embeddings_dir),
    }


def check_folders(folders: Mapping[str, Path]) -> Iterator[Finding]:
    """Room and locks of each folder, and room in the temporary folder; each file system's locks are tested once."""
    tested = set()
    for key, folder in folders.items():
        place = nearest_existing(folder)
        room = check_room(key, folder, place)
        yield room
        if room.state != "fail" and place.stat().st_dev not in tested:
            tested.add(place.stat().st_dev)
            yield check_locks(f"locks of {key}", place)
    temporary = Path(tempfile.gettempdir())
    room = check_room("temporary folder", temporary, temporary)
    hint = "W&B keeps media there until a run ends; the variable TMPDIR names another folder"
    yield room if room.state == "ok" else Finding(room.name, room.state, room.found, f"{room.advice}; {hint}")


def nearest_existing(folder: Path) -> Path:
    """The folder, or the nearest parent that exists: a training makes the rest."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def check_room(name: str, folder: Path, place: Path) -> Finding:
    """Whether a file can be written in `place`, and the free room of its file system."""
    if not place.is_dir():
        return Finding(name, "fail", f"{place} is a file, not a folder", f"move it away, or choose another {name}")
    try:
        with tempfile.TemporaryFile(dir=place) as stream:
            stream.write(bytes(_TEST_BYTES))
            stream.flush()
    except OSError as error:
        return Finding(
            name, "fail", f"{folder} cannot be written: {error.strerror}", "free room, or choose a folder that is yours"
        )
    free = shutil.disk_usage(place).free / GIB
    found = f"{folder} can be written, {free:.1f} GiB free"
    if free < _LEAST_GIB:
        return Finding(name, "fail", found, "free room, or choose a folder on another disk")
    if free < _FEW_GIB:
        return Finding(name, "note", found, "a grid of large models may need more room")
    return Finding(name, "ok", found)


def check_locks(name: str, place: Path) -> Finding:
    """Whether a second process sees the lock (flock) of a first one, as processes that share a grid need."""
    with tempfile.NamedTemporaryFile(dir=place, prefix=".cellpatch-doctor-", suffix=".lock") as file:
        try:
            with file_lock(Path(file.name)):
                command = [sys.executable, "-I", "-S", "-c", _OTHER_PROCESS, file.name]
                status = subprocess.run(command, capture_output=True, check=False).returncode  # noqa: S603
        except (OSError, NotImplementedError) as error:
            return Finding(name, "fail", f"{place} has no file locks (flock): {error}", _ADVICE_LOCKS)
    if status != _SAW_IT:
        return Finding(name, "fail", f"{place}: a second process does not see a lock of the first", _ADVICE_LOCKS)
    return Finding(name, "ok", f"a second process sees locks (flock) on the file system of {place}")
