"""Threads that wait for one another leave their core soon, unless the user decides."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

from cellpatch.runtime.threads import wait_briefly


@pytest.mark.parametrize(
    ("of_user", "expected"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)],
)
def test_the_user_decides(monkeypatch: pytest.MonkeyPatch, of_user: dict[str, str], expected: str | None) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in of_user.items():
        monkeypatch.setenv(name, value)
    wait_briefly()
    assert os.environ.get("GOMP_SPINCOUNT") == expected


@pytest.mark.skipif(sys.platform != "linux", reason="GNU's OpenMP comes with torch on Linux")
@pytest.mark.parametrize("command", [["-m", "cellpatch", "train"], ["train.py"]])
def test_it_is_set_before_torch_is_loaded(command: list[str]) -> None:
    """OpenMP reads its settings once, when it is loaded, and shows them then."""
    kept = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    environment = kept | {"OMP_DISPLAY_ENV": "verbose", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    settings = ["model=cnn", "dry_run=true", "data.cells=200", "data.specimens=10"]
    done = subprocess.run(
        [sys.executable, *command, *settings], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    shown = [line for line in done.stderr.splitlines() if "GOMP_SPINCOUNT" in line]
    assert shown
    assert all("10000" in line for line in shown)
