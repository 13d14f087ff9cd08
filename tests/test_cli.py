"""The commands as users give them, in processes of their own."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

SMALL = ["model.recipe.lr=0.01", "trainer.max_epochs=1", "trainer.accelerator=cpu", "adapt.batch_size=32"]
SMALL_CNN = ["model=cnn", "model.backbone.input_px=16", "model.backbone.widths=[8,16]", *SMALL]


def _places(tmp_path: Path) -> list[str]:
    return [f"runs_dir={tmp_path / 'runs'}", f"data.loading.store_dir={tmp_path / 'stores'}"]


def _run(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *arguments, *_places(tmp_path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        check=False,
    )


def test_a_grid_twice_with_wandb_offline(tmp_path: Path, folder_of_squares: Callable[..., Path]) -> None:
    root = folder_of_squares(20, 5)
    command = ["-m", "data=folder", f"data.root={root}", *SMALL_CNN, "flag_limit=4,8"]
    first = _run(tmp_path, *command)
    assert first.returncode == 0, first.stderr
    found = sorted(path.name.rsplit("-", 1)[0] for path in (tmp_path / "runs").glob("cnn*"))
    assert found == ["cnn-scratch-folder-4-s0", "cnn-scratch-folder-8-s0"]
    logged = list((tmp_path / "runs").glob("cnn*/wandb/offline-run-*/*.wandb"))
    assert len(logged) == 2
    stamp = rb"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d"  # the grid's name, which its runs share as their group
    groups = [set(re.findall(stamp, file.read_bytes())) for file in logged]
    assert groups[0] == groups[1]
    assert len(groups[0]) == 1
    for file in logged:
        assert all(
            word in file.read_bytes() for word in (b"val_macro_f1", b"confusion", b"misclassified", b"flag_limit")
        )
    assert "macro-F1" in first.stdout
    second = _run(tmp_path, *command)
    assert second.returncode == 0, second.stderr
    assert second.stderr.count("exists: not trained again") == 2
    assert "epoch" not in second.stderr
    done = subprocess.run(
        [sys.executable, "-m", "cellpatch.runs", str(tmp_path / "runs")], capture_output=True, text=True, check=True
    )
    assert "2 runs" in done.stdout
    figure = subprocess.run(
        [sys.executable, str(ROOT / "experiments" / "figure3.py"), str(tmp_path / "runs")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    assert figure.stdout.split() == ["figures/figure3.png", "figures/figure3.pdf"]
    drawn = np.asarray(Image.open(tmp_path / "figures" / "figure3.png").convert("L"))
    assert (drawn < 128).mean() > 0.005


def test_two_processes_share_one_run(tmp_path: Path, folder_of_squares: Callable[..., Path]) -> None:
    arguments = ["data=folder", f"data.root={folder_of_squares(20, 5)}", *SMALL_CNN, "logger=none"]
    command = [sys.executable, str(ROOT / "train.py"), *arguments, *_places(tmp_path)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) for _ in range(2)]
    errors = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert sum("epoch 1/1" in error for error in errors) == 1
    assert sum("exists: not trained again" in error for error in errors) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["flag_limit=0"], "flag_limit must be >= 1, but got 0"),
        (["flag_limit=abc"], "abc"),
        (["flaglimit=5"], "flaglimit"),
        (["+typo=1"], "unknown key typo"),
        (["data=folder", "data.root=/nowhere"], "error: data.root must be a folder, but got /nowhere"),
    ],
)
def test_mistakes_end_in_a_message_and_a_status(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = _run(tmp_path, *arguments, "logger=none")
    assert done.returncode != 0
    assert message in done.stderr
    assert not list((tmp_path / "runs").glob("[!.]*"))
    assert not (tmp_path / "stores").exists()


def test_a_grid_with_a_mistake_goes_on_and_fails(tmp_path: Path, folder_of_squares: Callable[..., Path]) -> None:
    root = folder_of_squares(20, 5)
    done = _run(tmp_path, "-m", "data=folder", f"data.root={root}", *SMALL_CNN, "logger=none", "flag_limit=0,4")
    assert done.returncode != 0
    assert "failed: flag_limit must be >= 1, but got 0" in done.stderr
    assert len(list((tmp_path / "runs").glob("cnn*/record.json"))) == 1


def test_prepare_ahead(tmp_path: Path, folder_of_squares: Callable[..., Path]) -> None:
    root = f'"{folder_of_squares(20, 5, name="組織 1, (Fall Ä)")}"'  # quoted for Hydra, as the README says
    done = subprocess.run(
        [sys.executable, "-m", "cellpatch.data.prepare", "data=folder", f"data.root={root}", *_places(tmp_path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "60 cells" in done.stdout
    assert len(list((tmp_path / "stores").glob("folder-*/manifest.json"))) == 1
