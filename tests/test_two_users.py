"""One grid of two users: finished runs need no write permission, and shared folders work with the umask of the docs.

The tests run as root here and in CI, and do commands as two other users, `nobody` and `daemon`, in forks of this process
that give up root: the interpreter's own files may lie where only root reads, so a first grid imports everything. Without
root both are this user: what must not be written is then taken from them by the modes of folders, which is the same to a
command.
"""

import grp
import logging
import os
import pwd
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Invoke
from hydra.core.global_hydra import GlobalHydra
from kill_grid import write_cells

from cellpatch.cli import train
from cellpatch.runs.folders import is_run
from cellpatch.runs.stored_run import StoredRun

IS_ROOT = os.getuid() == 0
GRID = ["-m", "data=folder", "model=colour", "logger=none", "trainer.accelerator=cpu", "flag_limit=4,8"]


@pytest.fixture
def place(invoke: Invoke) -> Iterator[Path]:
    """A folder with cells that every user can reach (pytest's are closed), and `shared`, where the group may write."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        place.chmod(0o755)
        write_cells(place / "cells")
        first = invoke(train.main, [*_grid(place, place / "first"), "flag_limit=4"], place)  # imports everything
        assert first.returncode == 0, first.stdout + first.stderr
        shared = place / "shared"
        shared.mkdir()
        if IS_ROOT:
            shutil.chown(shared, "nobody", "nogroup")
        shared.chmod(0o2775)
        yield place
        for each in [shared, *(each for each in shared.rglob("*") if each.is_dir())]:
            each.chmod(0o775)


def _grid(place: Path, shared: Path) -> list[str]:
    folders = {"runs_dir": "runs", "data.loading.store_dir": "stores", "data.loading.embeddings_dir": "embeddings"}
    return [*GRID, f"data.root={place / 'cells'}", *(f"{key}={shared / name}" for key, name in folders.items())]


def _start(place: Path, user: str, umask: int, *overrides: str) -> tuple[int, Path]:
    """Fork a process that does the grid as another user: its number, and the file of what it prints."""
    home = place / f"home of {user}"
    home.mkdir(exist_ok=True)
    if IS_ROOT:
        shutil.chown(home, user, "nogroup")
    file = place / f"log {len(list(place.glob('log *')))}"
    file.touch()
    child = os.fork()
    if child:
        return child, file
    status = 1
    try:
        sys.stdout = sys.stderr = file.open("w", encoding="utf-8")
        logging.root.handlers = []
        GlobalHydra.instance().clear()
        if IS_ROOT:
            os.setgroups([])
            os.setgid(grp.getgrnam("nogroup").gr_gid)
            os.setuid(pwd.getpwnam(user).pw_uid)
        os.umask(umask)
        os.chdir(home)
        tempfile.tempdir = str(home)
        train.main([*_grid(place, place / "shared"), *overrides])
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
        print("" if isinstance(end.code, int | None) else end.code)
    except BaseException:
        print(traceback.format_exc())
    finally:
        logging.shutdown()
        sys.stdout.flush()
        os._exit(status)


def _end(started: tuple[int, Path]) -> tuple[int, str]:
    child, file = started
    _, status = os.waitpid(child, 0)
    words = file.read_text(encoding="utf-8")
    assert "Traceback" not in words, words
    return os.waitstatus_to_exitcode(status), words


def _snapshot(folder: Path) -> dict[Path, int]:
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.long
def test_a_finished_grid_of_another_user_is_looked_at_and_not_written(place: Path) -> None:
    status, words = _end(_start(place, "nobody", 0o022))
    assert (status, "2 jobs: 2 trained" in words) == (0, True), words
    shared = place / "shared"
    for folder in [shared, *(each for each in shared.rglob("*") if each.is_dir())]:
        folder.chmod(0o555 if not IS_ROOT else 0o755)
    before = _snapshot(shared)
    status, words = _end(_start(place, "daemon", 0o022))
    assert (status, "2 jobs: 2 exists" in words) == (0, True), words
    assert "the outcomes of this grid are in" in words
    status, words = _end(_start(place, "daemon", 0o022, "optics.kind=post", "optics.sigma=1.6", "flag_limit=4"))
    assert status == 1
    assert "cannot be written: it belongs to" in words
    assert "Ask its owner to give this command or to let your group write" in words
    assert ("nobody (drwxr-xr-x)" in words or "nobody (-rw-r--r--)" in words) == IS_ROOT, words
    status, words = _end(_start(place, "daemon", 0o022, "flag_limit=6"))
    assert status == 1
    assert "cannot be written: it belongs to" in words
    assert _snapshot(shared) == before


@pytest.mark.long
def test_two_users_with_the_umask_of_the_docs_share_a_grid(place: Path) -> None:
    together = [_start(place, user, 0o002) for user in ("nobody", "daemon")]
    ended = [_end(process) for process in together]
    assert [status for status, _ in ended] == [0, 0], ended
    runs = sorted(each for each in (place / "shared" / "runs").iterdir() if not each.name.startswith("."))
    assert len(runs) == 2, "each run once"
    later = [_start(place, user, 0o002, "optics.kind=post", "optics.sigma=1.6") for user in ("daemon", "nobody")]
    ended = [_end(process) for process in later]
    assert [status for status, _ in ended] == [0, 0], ended
    assert sum(words.count(" evaluated") for _, words in ended) >= 1
    for run in runs:
        assert len(StoredRun.open(run).predictions) == 2, "both conditions, each once"


@pytest.mark.long
def test_a_grid_in_a_folder_that_only_another_user_reads_ends_with_a_message(place: Path) -> None:
    status, words = _end(_start(place, "nobody", 0o077, "flag_limit=4"))
    assert status == 0, words
    runs_dir = place / "shared" / "runs"
    if not IS_ROOT:
        runs_dir.chmod(0o000)
    status, words = _end(_start(place, "daemon", 0o022, "flag_limit=4"))
    assert (status, words.strip()) == (1, f"error: runs_dir={runs_dir} cannot be written: Permission denied")


@pytest.mark.long
def test_two_umasks_at_once_leave_a_whole_grid(place: Path) -> None:
    """Who cannot write what the other one locked ends with a message, and what is there is whole."""
    together = [_start(place, "nobody", 0o022), _start(place, "daemon", 0o077)]
    ended = [_end(process) for process in together]
    for status, words in ended:
        assert status == 0 or "cannot be" in words, words
    runs = [each for each in (place / "shared" / "runs").iterdir() if is_run(each)]
    assert len(runs) == len({run.name for run in runs}) <= 2
    for run in runs:
        StoredRun.open(run).check_files()
