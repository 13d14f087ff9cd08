"""The commands as users give them: in processes of their own where that matters, else in this one, which is quicker."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, Invoke, start_python
from PIL import Image

from cellpatch.cli.train import main

SMALL = ["model.recipe.lr=0.01", "trainer.max_epochs=1", "trainer.accelerator=cpu", "adapt.batch_size=32"]
SMALL_CNN = ["model=cnn", "model.backbone.input_px=16", "model.backbone.widths=[8,16]", *SMALL]


def _places(tmp_path: Path) -> list[str]:
    return [f"runs_dir={tmp_path / 'runs'}", f"data.loading.store_dir={tmp_path / 'stores'}"]


def _process(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *arguments, *_places(tmp_path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        check=False,
    )


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`train.py` with arguments in this process."""
    monkeypatch.setattr(sys, "argv", [str(ROOT / "train.py")])
    return lambda *arguments: invoke(main, [*arguments, *_places(tmp_path)], tmp_path)


@pytest.mark.long
def test_a_grid_twice_with_wandb_offline(tmp_path: Path, run: Run, folder_of_squares: Callable[..., Path]) -> None:
    root = folder_of_squares(20, 5)
    command = ["-m", "data=folder", f"data.root={root}", *SMALL_CNN, "flag_limit=4,8"]
    first = _process(tmp_path, *command)
    assert first.returncode == 0, first.stderr
    assert "leaked" not in first.stderr, "nanobind grumbles about what gc.freeze still holds"
    found = sorted(path.name.rsplit("-", 1)[0] for path in (tmp_path / "runs").glob("cnn*"))
    assert found == ["cnn-scratch-folder-4-s0", "cnn-scratch-folder-8-s0"]
    logged = list((tmp_path / "runs").glob("cnn*/wandb/offline-run-*/*.wandb"))
    assert len(logged) == 2
    for file in logged:
        assert all(
            word in file.read_bytes()
            for word in (
                b"val_macro_f1",
                b"tables/confusion",
                b"cells/wrong",
                b"flag_limit",
                b"tables/blur",
                b"tables/per_class",
                b"cells/correct",
            )
        )
    assert "macro-F1" in first.stdout
    second = run(*command)
    assert second.returncode == 0, second.stderr
    assert second.stderr.count("exists: not trained again") == 2
    assert "epoch" not in second.stderr
    done = subprocess.run(
        [sys.executable, "-m", "cellpatch.runs", str(tmp_path / "runs")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "2 runs" in done.stdout
    figure = subprocess.run(
        [sys.executable, str(ROOT / "experiments" / "figures" / "figure3.py"), str(tmp_path / "runs")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    assert figure.stdout.split() == [f"figures/figure3.{kind}" for kind in ("png", "pdf", "txt")]
    drawn = np.asarray(Image.open(tmp_path / "figures" / "figure3.png").convert("L"))
    assert (drawn < 128).mean() > 0.002


@pytest.mark.long
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
        (["flag_limit=abc"], "error: flag_limit must be a whole number, but got abc"),
        (["flaglimit=5"], "error: unknown key flaglimit; did you mean flag_limit?"),
        (["-m", "flaglimit=5,6"], "error: unknown key flaglimit; did you mean flag_limit?"),
        (["data.root=My", "Slides"], "put both in quotes: python train.py 'data.root=My Slides' logger=none"),
        (["+typo=1"], "unknown key typo"),
        (["data=folder", "data.root=/nowhere"], "error: data.root must be a folder, but got /nowhere"),
    ],
)
def test_mistakes_end_in_a_message_and_a_status(tmp_path: Path, run: Run, arguments: list[str], message: str) -> None:
    done = run(*arguments, "logger=none")
    assert done.returncode != 0
    assert message in done.stderr
    assert not list((tmp_path / "runs").glob("[!.]*"))
    assert not (tmp_path / "stores").exists()


def test_a_grid_with_a_mistake_goes_on_and_fails(
    tmp_path: Path, run: Run, folder_of_squares: Callable[..., Path]
) -> None:
    root = folder_of_squares(20, 5)
    done = run("-m", "data=folder", f"data.root={root}", *SMALL_CNN, "logger=none", "flag_limit=0,4")
    assert done.returncode != 0
    assert "failed: flag_limit must be >= 1, but got 0" in done.stderr
    assert "2 jobs: 1 failed, 1 trained" in done.stdout
    assert "    flag_limit must be >= 1, but got 0" in done.stdout
    assert len(list((tmp_path / "runs").glob("cnn*/record.json"))) == 1


@pytest.mark.long
def test_one_mistake_in_a_grid_is_printed_once(tmp_path: Path) -> None:
    done = _process(tmp_path, "-m", "data=folder", "data.root=/nowhere", "model=cnn,nin", "seed=0,1", "logger=none")
    assert done.returncode == 1
    output = done.stdout + done.stderr
    assert output.count("data.root must be a folder, but got /nowhere") == 1
    assert output.count("the same error as job #0") == 3
    assert len(re.findall(r"#\d model=\w+ seed=\d: its traceback: .*000\d\.log", done.stdout)) == 4
    assert "4 jobs: 4 failed" in done.stdout


@pytest.mark.long
def test_what_failed_is_tried_again_on_request_alone(
    tmp_path: Path, run: Run, folder_of_squares: Callable[..., Path]
) -> None:
    command = ["-m", "data=folder", f"data.root={folder_of_squares(20, 5)}", *SMALL_CNN, "logger=none"]
    command += ["adapt.lr=0.01,1e30"]
    first = run(*command)
    assert first.returncode == 1
    assert "2 jobs: 1 failed, 1 trained" in first.stdout
    assert "training diverged" in first.stdout
    [failure] = (tmp_path / "runs" / ".failed").iterdir()
    assert "Traceback" in failure.read_text()
    listed = subprocess.run(
        [sys.executable, "-m", "cellpatch.runs", str(tmp_path / "runs")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"failed: {failure.stem}: ValueError: " in listed.stdout
    again = run(*command)
    assert again.returncode == 1
    assert "2 jobs: 1 exists, 1 skipped (failed before)" in again.stdout
    assert f"retry_failed=true retries failed runs; {tmp_path / 'runs'}/.failed has the last traceback" in again.stdout
    [stack] = (tmp_path / "runs" / ".hydra").glob("*/*.log")
    assert f"    its traceback: {stack}" in first.stdout
    assert stack.read_text().splitlines()[-1] == failure.read_text().splitlines()[-1]
    assert "epoch" not in again.stderr
    tried = run(*command, "retry_failed=true")
    assert "2 jobs: 1 exists, 1 failed" in tried.stdout
    assert "training diverged" in tried.stdout


@pytest.mark.long
def test_processes_share_a_grid(tmp_path: Path, folder_of_squares: Callable[..., Path]) -> None:
    arguments = ["-m", "data=folder", f"data.root={folder_of_squares(20, 5)}", *SMALL_CNN, "logger=none"]
    arguments += ["seed=0,1,2", "flag_limit=4,8", "trainer.max_epochs=30", "adapt.patience=30"]
    command = [sys.executable, str(ROOT / "train.py"), *arguments, *_places(tmp_path)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": tmp_path}
    both = [subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, **pipes) for _ in range(2)]
    output = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], output
    trained = [int(match[1]) for out, _ in output for match in re.finditer(r"6 jobs: .*?(\d+) trained", out)]
    assert sum(trained) == 6, "every run once"
    assert len(trained) == 2, "and none of the two was idle"
    assert len(list((tmp_path / "runs").glob("cnn*/record.json"))) == 6
    assert not list((tmp_path / "runs").glob(".*.tmp"))


@pytest.mark.long
def test_what_fails_is_tried_by_one_of_two_processes(tmp_path: Path, folder_of_squares: Callable[..., Path]) -> None:
    arguments = ["-m", "data=folder", f"data.root={folder_of_squares(20, 5)}", *SMALL_CNN, "logger=none"]
    arguments += ["adapt.lr=1e30", "trainer.max_epochs=60"]
    command = [sys.executable, str(ROOT / "train.py"), *arguments, *_places(tmp_path)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": tmp_path}
    both = [subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, **pipes) for _ in range(2)]
    output = [process.communicate() for process in both]
    assert sorted(re.findall(r"1 jobs: 1 (.*)", "".join(out for out, _ in output))) == [
        "failed",
        "skipped (failed before)",
    ], output
    assert sum("epoch 1/60" in err for _, err in output) == 1


@pytest.mark.long
def test_a_killed_grid_goes_on(tmp_path: Path, folder_of_squares: Callable[..., Path]) -> None:
    arguments = ["-m", "data=folder", f"data.root={folder_of_squares(20, 5)}", *SMALL_CNN, "logger=none", "seed=0,1"]
    arguments += ["trainer.max_epochs=60", "adapt.patience=60"]
    command = [sys.executable, str(ROOT / "train.py"), *arguments, *_places(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert process.stderr is not None
    for line in process.stderr:
        if "epoch 3/60" in line:
            process.kill()
            break
    process.communicate()
    assert list((tmp_path / "runs").glob(".cnn*.tmp"))
    done = _process(tmp_path, *arguments)
    assert done.returncode == 0
    assert not list((tmp_path / "runs").glob(".cnn*.tmp"))
    assert "2 jobs: 2 trained" in done.stdout


@pytest.mark.long
@pytest.mark.parametrize("mode", [[], ["-m"]], ids=["run", "grid"])
def test_an_interrupted_command_says_how_to_go_on(
    tmp_path: Path, folder_of_squares: Callable[..., Path], mode: list[str]
) -> None:
    arguments = [*mode, "data=folder", f"data.root={folder_of_squares(20, 5)}", *SMALL_CNN, "logger=none"]
    arguments += ["trainer.max_epochs=1000", "adapt.patience=1000"]
    command = [sys.executable, str(ROOT / "train.py"), *arguments, *_places(tmp_path)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": tmp_path}
    process = subprocess.Popen(command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **pipes)
    assert process.stderr is not None
    for line in process.stderr:
        if "epoch 3/1000" in line:
            process.send_signal(signal.SIGINT)
            break
    _, output = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted: the same command skips what is done and starts an unfinished training again; " in output
    assert output.endswith("continues from its last validation (if it was started with that setting)\n")
    assert "Traceback" not in output
    assert not list((tmp_path / "runs").glob(".cnn*.tmp"))


@pytest.mark.long
def test_prepare_ahead(tmp_path: Path, folder_of_squares: Callable[..., Path]) -> None:
    root = folder_of_squares(20, 5, name="組織 1, (Fall=Ä) [b] #2")
    for given in (f'data.root="{root}"', f"data.root={root.name}"):  # quoted for Hydra, and as it is
        command = [sys.executable, "-m", "cellpatch.data.prepare", "data=folder", given, "hydra.job.chdir=true"]
        done = subprocess.run([*command, *_places(tmp_path)], capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stderr
        assert "60 cells, crops of 16 px without a margin, their scale is not stated" in done.stdout
        assert "5 specimens: specimen0, specimen1, specimen2, specimen3, specimen4" in done.stdout
    assert len(list((tmp_path / "stores").glob("folder-*/manifest.json"))) == 1


@pytest.mark.long
@pytest.mark.parametrize("mode", [[], ["-m"]], ids=["run", "grid"])
def test_paths_are_taken_from_where_the_command_is_given(
    tmp_path: Path, folder_of_squares: Callable[..., Path], mode: list[str]
) -> None:
    root = folder_of_squares(20, 5, name="組織 1, (Fall=Ä) [b] #2 ~c 'd'")
    arguments = ["data=folder", f"data.root={root.name}", "data.loading.store_dir=my stores", "runs_dir=my runs"]
    arguments += [*SMALL_CNN, "logger=none", "hydra.job.chdir=true"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "train.py"), *mode, *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "my runs").glob("cnn*/record.json"))) == 1
    assert len(list((tmp_path / "my stores").glob("folder-*/manifest.json"))) == 1
    assert not (tmp_path / "my runs" / ".hydra" / "my runs").exists()
    assert {path.name for path in tmp_path.iterdir()} == {root.name, "my runs", "my stores"}


@pytest.mark.long
def test_a_dry_run_tells_and_trains_nothing(tmp_path: Path, run: Run, folder_of_squares: Callable[..., Path]) -> None:
    command = ["-m", "data=folder", f"data.root={folder_of_squares(20, 5)}", *SMALL_CNN, "logger=none"]
    unknown = run(*command, "flag_limit=4,8", "dry_run=true")
    assert unknown.returncode == 0, unknown.stderr
    assert unknown.stdout.count("its cells are not prepared yet") == 2
    assert "their run time is unknown" in unknown.stdout
    assert not (tmp_path / "stores").exists()
    assert run(*command, "flag_limit=4").returncode == 0
    before = sorted(file for file in tmp_path.rglob("*") if ".hydra" not in file.parts)
    done = run(*command, "flag_limit=4,8", "optics.sigma=0,0.8", "dry_run=true")
    assert "4 jobs: 1 exists, 1 to evaluate, 2 to train" in done.stdout
    assert "for 2 of 2 to train, by earlier runs of the same model" in done.stdout
    assert re.search(r"to train: cnn-scratch-folder-8-s0-\w+, about [\d.]+ min, [\d.]+ MiB", done.stdout)
    assert sorted(file for file in tmp_path.rglob("*") if ".hydra" not in file.parts) == before
    alone = run(*command[1:], "flag_limit=4", "dry_run=true")
    assert "exists: cnn-scratch-folder-4-s0" in alone.stdout


@pytest.mark.long
def test_models_without_weights_are_skipped_and_reported(
    tmp_path: Path, run: Run, folder_of_squares: Callable[..., Path]
) -> None:
    arguments = ["-m", "data=folder", f"data.root={folder_of_squares(20, 5)}", "logger=none", "trainer.max_epochs=1"]
    missing = ["model=efficientnet_lite0", "model.backbone.input_px=48", "model.weights.file=null,/nowhere.safetensors"]
    done = run(*arguments, *missing)
    assert done.returncode == 0, done.stderr
    assert "2 jobs: 1 trained, 1 unavailable" in done.stdout
    assert "there is no file /nowhere.safetensors" in done.stdout


@pytest.mark.long
def test_a_probe_does_without_lightning(tmp_path: Path, folder_of_squares: Callable[..., Path]) -> None:
    root = folder_of_squares(20, 5)
    arguments = ["model=efficientnet_lite0", "model.backbone.input_px=48", "data=folder", f"data.root={root}"]
    arguments += ["logger=none", f"data.loading.embeddings_dir={tmp_path / 'embeddings'}", *_places(tmp_path)]
    program = (
        "import runpy, sys; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__'); print(*sys.modules)"
    )
    command = [sys.executable, "-c", program, str(ROOT / "train.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert "torch" in done.stdout.split()
    assert "pytorch_lightning" not in done.stdout.split(), "it takes seconds to import"
    assert list((tmp_path / "runs").glob("*/record.json"))


def test_help_names_every_choice_and_key_and_is_quick_to_come() -> None:
    process = start_python("-X", "importtime", str(ROOT / "train.py"), "--help")
    output, imported = process.communicate()
    assert process.returncode == 0
    for file in (ROOT / "conf").glob("[!h]*/*.yaml"):
        assert re.search(rf"\b{file.stem}\b", output), file
    for key in ("flag_limit", "seed", "runs_dir", "retry_failed", "dry_run"):
        assert re.search(rf"^  {key} {{2,}}\w", output, re.M), key
    assert "torch" not in {line.rpartition("|")[2].strip() for line in imported.splitlines()}
