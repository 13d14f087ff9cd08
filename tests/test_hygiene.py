"""What a grid leaves to others: disks that fill, folders that vanish, servers that are not there, memory."""

import gc
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, config_of
from pytorch_lightning import Trainer
from stored import read_record

from cellpatch.runs import provenance
from cellpatch.runs.table import runs_table
from cellpatch.runs.verify import verify
from cellpatch.sweeps.train import train

SMALL_CNN = ["model=cnn", "model.backbone.input_px=16", "model.backbone.widths=[8,16]", "trainer.max_epochs=1"]
FolderMaker = Callable[..., Path]


def _grid(
    tmp_path: Path, root: Path, *overrides: str, largest_file: int | None = None, **environment: str
) -> "subprocess.CompletedProcess[str]":
    fixed = ["-m", "data=folder", f"data.root={root}", *SMALL_CNN, "trainer.accelerator=cpu"]
    fixed += [f"runs_dir={tmp_path / 'runs'}", f"data.loading.store_dir={tmp_path / 'stores'}"]

    def limit() -> None:
        if largest_file:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    command = [sys.executable, str(ROOT / "train.py"), *fixed, *overrides]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}  # its service's
    return subprocess.run(
        command,
        env=inherited | {"OMP_NUM_THREADS": "1"} | environment,
        cwd=tmp_path,
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.long
def test_a_run_that_finds_no_room_fails_alone(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    done = _grid(
        tmp_path, folder_of_squares(20, 5), "logger=none", "model.backbone.widths=[128],[4]", largest_file=400_000
    )
    assert done.returncode == 1
    assert "2 jobs: 1 failed, 1 trained" in done.stdout, done.stdout + done.stderr
    assert "no room to write" in done.stdout
    assert len(list((tmp_path / "runs").glob("cnn*"))) == 1
    assert not list((tmp_path / "runs").glob(".*.tmp"))


def test_an_impossible_runs_dir_is_reported(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    (tmp_path / "runs").write_text("a file where the folder should be")
    done = _grid(tmp_path, folder_of_squares(20, 5), "logger=none", "seed=0,1")
    assert done.returncode == 1
    assert f"error: runs_dir={tmp_path / 'runs'} cannot be written: File exists" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_store_that_goes_away_is_prepared_again_or_missed(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    root = folder_of_squares(20, 5)
    first = config_of(tmp_path, root, *SMALL_CNN, "flag_limit=4")
    train(first)
    shutil.rmtree(tmp_path / "stores")
    train(config_of(tmp_path, root, *SMALL_CNN, "flag_limit=8"))
    assert len(runs_table(tmp_path / "runs")) == 2
    shutil.rmtree(tmp_path / "stores")
    shutil.rmtree(root)
    with pytest.raises(ValueError, match="data.root"):
        train(config_of(tmp_path, root, *SMALL_CNN, "flag_limit=6"))
    assert len(runs_table(tmp_path / "runs")) == 2
    assert verify(tmp_path / "runs") == []


@pytest.mark.long
def test_a_wandb_server_that_does_not_answer_costs_no_run(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    server = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40, "WANDB_INIT_TIMEOUT": "5"}
    done = _grid(tmp_path, folder_of_squares(20, 5), "logger.wandb.offline=false", "seed=0", **server)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 jobs: 1 trained" in done.stdout
    assert "logger=wandb failed, and the run goes on without it" in done.stdout, "in the summary"
    (run,) = (tmp_path / "runs").glob("cnn*")
    assert read_record(run)["logged"] == []
    offline = _grid(tmp_path, folder_of_squares(20, 5), "seed=0", **server)
    assert "1 jobs: 1 exists" in offline.stdout, offline.stdout + offline.stderr
    assert read_record(run)["logged"] == ["wandb"], "a later command shows what was not shown"
    assert list(run.glob("wandb/offline-run-*/*.wandb")), "in the run's own folder"
    assert not (tmp_path / "wandb").exists()


def test_a_kill_leaves_the_repository_unlocked(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    run = subprocess.run

    def noted(command: list[str], **settings: Any) -> Any:
        commands.append(command)
        return run(command, **settings)

    monkeypatch.setattr(subprocess, "run", noted)
    provenance.git_state.cache_clear()
    provenance.git_state()
    assert commands
    assert all(command[:2] == ["git", "--no-optional-locks"] for command in commands)


@pytest.mark.long
def test_the_process_does_not_keep_what_a_run_opened(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    root = folder_of_squares(20, 5)

    def one(seed: int) -> int:
        outcome = train(config_of(tmp_path, root, *SMALL_CNN, "flag_limit=4", f"seed={seed}"))
        assert read_record(tmp_path / "runs" / outcome.run)["epochs"] == 1
        held = [each for each in gc.get_objects() if isinstance(each, Trainer)]
        assert not held, "its memory would be freed whenever Python comes to it"
        return len(list(Path("/proc/self/fd").iterdir()))

    counts = [one(seed) for seed in range(5)]
    assert counts[1] == counts[-1]
