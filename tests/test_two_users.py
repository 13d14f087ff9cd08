"""One grid of two users: finished runs need no write permission, and shared folders work with the umask of the docs.

The tests run as root here and in CI, and start commands as two other users, `nobody` and `daemon`. Without root both are
this user: what must not be written is then taken from them by the modes of folders, which is the same to a command.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from kill_grid import write_cells as write_squares

IS_ROOT = os.getuid() == 0
GRID = ["-m", "data=folder", "model=cnn", "model.backbone.input_px=16", "model.backbone.widths=[4]", "logger=none"]
GRID += ["trainer.accelerator=cpu", "trainer.max_epochs=1", "flag_limit=4,8"]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder with cells that every user can reach, and `shared`, in which the group may write."""
    write_squares(tmp_path / "cells")
    for each in (tmp_path, *tmp_path.parents):
        if each.stat().st_uid == os.getuid() and each != Path("/"):
            each.chmod(each.stat().st_mode | 0o055)
    shared = tmp_path / "shared"
    shared.mkdir()
    if IS_ROOT:
        shutil.chown(shared, "nobody", "nogroup")
    shared.chmod(0o2775)
    yield tmp_path
    for folder in [shared, *(each for each in shared.rglob("*") if each.is_dir())]:
        folder.chmod(0o775)


def _start(place: Path, user: str, umask: int, *overrides: str) -> "subprocess.Popen[str]":
    home = place / f"home of {user}"
    home.mkdir(exist_ok=True)
    if IS_ROOT:
        shutil.chown(home, user, "nogroup")
    shared = place / "shared"
    command = [
        sys.executable,
        str(ROOT / "train.py"),
        *GRID,
        f"data.root={place / 'cells'}",
        f"runs_dir={shared / 'runs'}",
    ]
    command += [f"data.loading.store_dir={shared / 'stores'}", f"data.loading.embeddings_dir={shared / 'embeddings'}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment |= {"HOME": str(home), "OMP_NUM_THREADS": "1", "TMPDIR": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    other = {"user": user, "group": "nogroup", "extra_groups": []} if IS_ROOT else {}
    return subprocess.Popen(
        [*command, *overrides], env=environment, cwd=home, umask=umask, text=True, stdout=-1, stderr=-1, **other
    )


def _end(process: "subprocess.Popen[str]") -> tuple[int, str]:
    out, err = process.communicate(timeout=300)
    assert "Traceback" not in out + err, out + err
    return process.returncode, out + err


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
    for user in ("nobody", "daemon"):
        status, words = _end(
            _start(place, user, 0o002, "optics.kind=post", f"optics.sigma={1.6 if user == 'nobody' else 3.2}")
        )
        assert (status, "2 jobs: 2 evaluated" in words) == (0, True), words
    status, words = _end(_start(place, "daemon", 0o022))
    assert (status, "2 jobs: 2 exists" in words) == (0, True), words


@pytest.mark.long
def test_two_umasks_at_once_leave_a_whole_grid(place: Path) -> None:
    """Who cannot write what the other one locked ends with a message, and what is there is whole."""
    together = [_start(place, "nobody", 0o022), _start(place, "daemon", 0o077)]
    for process in together:
        status, words = _end(process)
        assert status == 0 or "cannot be" in words, words
    status, words = _end(_start(place, "nobody", 0o022))
    assert status == 0 or "cannot be" in words, words
