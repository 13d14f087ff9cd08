"""The launchers on real engines: make test-cluster, which installs them. A grid is the same grid wherever it ran."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from PIL import Image
from stored import read_record

from cellpatch.runs.table import runs_table

pytestmark = pytest.mark.cluster
SMALL_CNN = ["model=cnn", "model.backbone.input_px=16", "model.backbone.widths=[8,16]", "adapt.batch_size=8"]
JOBS = ["hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1"]
Grid = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("slurm")
    script = ROOT / "tests" / "cluster" / "slurm.sh"
    subprocess.run([script, "start", folder], check=True)
    yield folder / "slurm.conf"
    subprocess.run([script, "stop", folder], check=True)


@pytest.fixture
def grid(tmp_path: Path, folder_of_squares: Callable[..., Path]) -> Grid:
    root = folder_of_squares(20, 5)

    def start(name: str, *overrides: str, slurm: Path | None = None) -> "subprocess.Popen[str]":
        fixed = ["-m", "data=folder", f"data.root={root}", *SMALL_CNN, "logger=none", "trainer.accelerator=cpu"]
        fixed += [f"runs_dir={tmp_path / name}", f"data.loading.store_dir={tmp_path / 'stores'}"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"} | ({"SLURM_CONF": str(slurm)} if slurm else {})
        command = [sys.executable, str(ROOT / "train.py"), *fixed, *overrides]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(command, env=environment, cwd=tmp_path, text=True, **pipes)  # type: ignore[call-overload, no-any-return]

    return start


def _table(runs_dir: Path) -> pd.DataFrame:
    return runs_table(runs_dir).drop(columns="seconds")


@pytest.mark.parametrize("launcher", ["joblib", "submitit_slurm", "ray"])
def test_a_grid_is_the_same_on_every_launcher(
    tmp_path: Path, grid: Grid, launcher: str, request: pytest.FixtureRequest
) -> None:
    several = ["flag_limit=4,8", "seed=0,1", "trainer.max_epochs=3"]
    on_slurm = launcher == "submitit_slurm"
    conf = request.getfixturevalue("slurm") if on_slurm else None
    for name, more in (("here", []), ("there", [f"hydra/launcher={launcher}", *(JOBS if on_slurm else [])])):
        process = grid(name, *several, *more, slurm=conf)
        output, _ = process.communicate(timeout=400)
        assert process.returncode == 0, output
        assert "4 jobs: 4 trained" in output, output
    pd.testing.assert_frame_equal(_table(tmp_path / "here"), _table(tmp_path / "there"))


@pytest.mark.parametrize("launcher", ["joblib", "submitit_slurm", "ray"])
def test_a_failed_job_fails_alone_and_the_status_says_so(
    grid: Grid, launcher: str, request: pytest.FixtureRequest
) -> None:
    on_slurm = launcher == "submitit_slurm"
    conf = request.getfixturevalue("slurm") if on_slurm else None
    more = [f"hydra/launcher={launcher}", *(JOBS if on_slurm else [])]
    process = grid("runs", "flag_limit=4", "trainer.max_epochs=1,0", *more, slurm=conf)
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 1, output
    assert "2 jobs: 1 failed, 1 trained" in output, output


def test_a_search_is_the_same_with_several_processes(tmp_path: Path, grid: Grid) -> None:
    """Two trials of two seeds at once; joblib's number of processes is that of trials."""
    searched = ["hydra/sweeper=optuna", "adapt.lr=tag(log,interval(1e-4,1e-1))", "hydra.sweeper.n_trials=3", "seed=0,1"]
    small = ["flag_limit=4", "trainer.max_epochs=2"]
    for name, more in (
        ("here", ["hydra.sweeper.n_parallel=2"]),
        ("there", ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]),
    ):
        output, _ = grid(name, *searched, *small, *more).communicate(timeout=500)
        assert "6 jobs: 6 trained" in output, output
        assert "search: 3 trials, 0 failed, 0 interrupted" in output, output
    pd.testing.assert_frame_equal(_table(tmp_path / "here"), _table(tmp_path / "there"))


def test_a_job_that_slurm_takes_back_goes_on(tmp_path: Path, grid: Grid, slurm: Path) -> None:
    long = ["flag_limit=8", "trainer.max_epochs=300", "adapt.patience=300"]
    undisturbed = grid("undisturbed", *long)
    process = grid("requeued", *long, "trainer.resume=true", "hydra/launcher=submitit_slurm", *JOBS, slurm=slurm)
    until = time.monotonic() + 200
    while not list((tmp_path / "requeued").glob(".progress/*.ckpt")):
        assert time.monotonic() < until, "no epoch was trained"
        time.sleep(0.2)
    commands = os.environ | {"SLURM_CONF": str(slurm)}
    listed = subprocess.run(["squeue", "-h", "-o", "%A"], env=commands, capture_output=True, text=True, check=True)
    (job,) = listed.stdout.split()
    subprocess.run(["scancel", "--signal=USR2", job], env=commands, check=True)
    output, _ = process.communicate(timeout=500)
    assert process.returncode == 0, output
    undisturbed.communicate(timeout=300)
    (run,) = [file.parent for file in (tmp_path / "requeued").glob("cnn*/record.json")]
    assert read_record(run)["resumed_at_update"], "it did not start anew"
    whole = tmp_path / "undisturbed" / run.name
    for name in ("weights.safetensors", "predictions.parquet"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.parametrize("launcher", ["joblib", "submitit_slurm", "ray"])
def test_slides_are_predicted_on_every_launcher(
    tmp_path: Path, grid: Grid, launcher: str, request: pytest.FixtureRequest
) -> None:
    grid("runs", "flag_limit=4", "trainer.max_epochs=1", "data.um_per_px=0.5").communicate(timeout=400)
    [record] = (tmp_path / "runs").glob("cnn*/record.json")
    for name in "abc":
        Image.fromarray(np.full((48, 48, 3), 90, np.uint8)).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.csv").write_text("x,y\n24,24\n20,30\n")
    conf = request.getfixturevalue("slurm") if launcher == "submitit_slurm" else None
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment |= {"SLURM_CONF": str(conf)} if conf else {}
    command = [sys.executable, "-m", "cellpatch.predict", str(record.parent), "a.csv", "b.csv", "c.csv"]
    command += ["--um-per-px", "0.5", "--out-dir", "out", "--launcher", launcher]
    command += ["--set", "cpus_per_task=1", "--set", "mem_gb=1"] if conf else []
    for states in ("3 predicted", "3 exists"):
        pipes = {"capture_output": True, "text": True, "timeout": 400}
        done = subprocess.run(command, cwd=tmp_path, env=environment, check=False, **pipes)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"3 sources: {states}" in done.stdout, done.stdout + done.stderr
    assert len(pd.read_csv(tmp_path / "out" / "b.csv")) == 2


def _workers_at_work(runs_dir: Path, process: "subprocess.Popen[str]") -> list[int]:
    """The processes of joblib, once the first of them trains."""
    until = time.monotonic() + 200
    while not list(runs_dir.glob(".cnn*.tmp")):
        assert time.monotonic() < until, "no run was begun"
        time.sleep(0.2)
    return [int(file.parent.name) for file in Path("/proc").glob("[0-9]*/cmdline") if _is_worker(file, process.pid)]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_joblib_s_processes(tmp_path: Path, grid: Grid, number: signal.Signals, status: int) -> None:
    process = grid("runs", "flag_limit=8", "seed=0,1", "trainer.max_epochs=900", "hydra/launcher=joblib")
    workers = _workers_at_work(tmp_path / "runs", process)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == status, output
    assert "Traceback" not in output
    assert "is validated against ConfigStore" not in output, "Hydra's warning of our launchers' names"
    assert "2 jobs: 2 interrupted" in output
    assert output.splitlines()[-1].startswith("interrupted: the same command skips what is done")
    until = time.monotonic() + 30
    while any(Path("/proc", str(worker)).exists() for worker in workers):
        assert time.monotonic() < until, "processes are left"
        time.sleep(0.2)


def test_a_killed_worker_leaves_a_summary_and_the_same_command_goes_on(tmp_path: Path, grid: Grid) -> None:
    long = ["flag_limit=8", "seed=0,1,2", "trainer.max_epochs=300", "adapt.patience=300", "hydra/launcher=joblib"]
    process = grid("runs", *long)
    os.kill(_workers_at_work(tmp_path / "runs", process)[0], signal.SIGKILL)
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 1, output
    assert "the launcher ended before its jobs did" in output
    assert "3 jobs: " in output
    assert "interrupted" in output.rpartition("3 jobs: ")[2]
    again, _ = grid("runs", *long).communicate(timeout=400)
    assert len(_table(tmp_path / "runs")) == 3, again
    assert not list((tmp_path / "runs").glob(".*.tmp"))


def _is_worker(cmdline: Path, parent: int) -> bool:
    try:
        of_joblib = b"popen_loky" in cmdline.read_bytes()
        return of_joblib and f"\nPPid:\t{parent}\n" in cmdline.with_name("status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
