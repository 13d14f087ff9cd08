"""Training that was killed goes on as if it had not been; two processes train as one."""

import logging
import pickle
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import torch
from conftest import config_of
from stored import read_record
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.distributed import destroy_process_group, init_process_group
from torch.multiprocessing import spawn

from cellpatch.models.sync_batchnorm import sync_batchnorm
from cellpatch.runs.locks import RunFiles, run_lock
from cellpatch.runs.unfinished import find_unfinished, report_unfinished
from cellpatch.sweeps.train import train
from cellpatch.training.callbacks import LastCheckpoint
from cellpatch.training.lightning_module import _random_state, _set_random_state
from cellpatch.training.processes import SpawnedProcesses

SMALL_VIT = ["model=customvit_s", "model.backbone.input_px=16", "model.backbone.token_px=4"]
SMALL_VIT += ["model.backbone.stem_width=8", "model.backbone.dim=32", "model.backbone.depth=2"]
SMALL_VIT += ["model.backbone.heads=2", "model.recipe.lr=0.003", "adapt.batch_size=8"]
SMALL_CNN = ["model=cnn", "model.backbone.input_px=16", "model.backbone.widths=[8,16]", "adapt.batch_size=8"]


MIXED = ["adapt.mixup=0.4", "adapt.cutmix=1.0", "augment.erasing=0.5", "augment.scale=[0.8,1.25]"]
MIXED += ["adapt.focal_gamma=1.0", "adapt.label_smoothing=0.1"]
BUDGET = ["trainer.max_epochs=null", "adapt.validations=4", "adapt.min_epochs=0"]

PASSES = ["trainer.max_epochs=3"]


class Killed(BaseException):
    """As by a signal: nothing of ours catches it."""


@contextmanager
def killed_after(monkeypatch: pytest.MonkeyPatch, rounds: int = 1) -> Iterator[None]:
    """What trains in the block is killed once the checkpoint of this round is written."""
    write = LastCheckpoint.on_train_epoch_end

    def killed(self: LastCheckpoint, trainer: Any, module: Any) -> None:
        write(self, trainer, module)
        if trainer.current_epoch + 1 == rounds:
            raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(LastCheckpoint, "on_train_epoch_end", killed)
        yield


def _run(folder: Path, root: Path, *overrides: str) -> Path:
    outcome = train(config_of(folder, root, "flag_limit=10", *overrides))
    return folder / "runs" / outcome.run


@pytest.mark.long
@pytest.mark.parametrize(
    ("model", "more", "epoch"),
    [
        (SMALL_VIT, [], 1),
        (SMALL_CNN, [], 2),
        (SMALL_CNN, [], 4),  # trained to the end, and killed before it was evaluated
        (SMALL_CNN, ["adapt.patience=1", "model.recipe.lr=1.0e-9"], 1),
        (SMALL_VIT, ["optics=blur", "optics.train=[0.5,1.0]"], 2),
        (SMALL_CNN, ["augment=albumentations"], 2),
        (SMALL_CNN, [*BUDGET, "adapt.updates=14"], 2),  # of 4 batches a pass
        (SMALL_VIT, [*BUDGET, "adapt.updates=14"], 3),  # rounds of 4, 4, 4 and 2 updates
        (SMALL_CNN, [*BUDGET, "trainer.max_steps=14"], 4),
        (SMALL_CNN, [*BUDGET, "trainer.max_steps=14", "data.split.val_limit=3", "augment=none"], 1),
        (SMALL_CNN, [*MIXED, "adapt.balance=sampling", "optics=blur", "optics.train=[0.2,0.5]"], 2),
        (SMALL_VIT, [*MIXED, *BUDGET, "adapt.updates=14", "adapt.balance=adjusted_logits"], 3),
        (SMALL_CNN, ["adapt.optimizer=muon"], 2),
        (SMALL_VIT, ["adapt.optimizer=muon"], 2),
    ],
    ids=[
        "customvit",
        "cnn",
        "at the end",
        "stopped early",
        "training with blur",
        "batches of other processes",
        "budget",
        "budget, before the shorter last round",
        "budget, at the end",
        "budget, few validation cells",
        "balanced sampling, everything mixed",
        "adjusted logits, everything mixed",
        "cnn, muon",
        "customvit, muon",
    ],
)
def test_a_killed_run_goes_on_to_the_same_bits(
    tmp_path: Path,
    folder_of_squares: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    model: list[str],
    more: list[str],
    epoch: int,
) -> None:
    root = folder_of_squares(20, 5)
    overrides = [*model, "trainer.max_epochs=4", *more]
    undisturbed = _run(tmp_path / "undisturbed", root, *overrides)
    place = tmp_path / "killed"
    with killed_after(monkeypatch, epoch):
        _run(place, root, *overrides, "trainer.resume=true")
    (progress,) = (place / "runs" / ".progress").iterdir()
    assert progress.name == f"{undisturbed.name}.ckpt"
    run = _run(place, root, *overrides, "trainer.resume=true")
    assert not progress.exists()
    for name in ("weights.safetensors", "predictions.parquet"):
        assert (run / name).read_bytes() == (undisturbed / name).read_bytes(), name
    record, expected = read_record(run), read_record(undisturbed)
    same = ("metrics", "best_epoch", "epochs", "best_update", "updates", "best_validation", "history", "val_macro_f1")
    for name in (*same, "temperature", "identity"):
        assert record[name] == expected[name], name
    assert expected["resumed_at_update"] == []
    done = [] if len(expected["history"]) == epoch else [expected["history"][epoch - 1]["update"]]
    assert record["resumed_at_update"] == done


@pytest.mark.parametrize("resume", [False, True])
def test_a_command_names_the_unfinished_training_that_it_finds(
    tmp_path: Path,
    folder_of_squares: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    resume: bool,
) -> None:
    caplog.set_level("INFO")
    root = folder_of_squares(20, 5)
    overrides = [*SMALL_CNN, "trainer.max_epochs=3"]
    with killed_after(monkeypatch):
        _run(tmp_path, root, *overrides, "trainer.resume=true")
    assert "unfinished" not in caplog.text
    run = _run(tmp_path, root, *overrides, f"trainer.resume={str(resume).lower()}")
    [found] = [line for line in caplog.messages if "unfinished" in line]
    [update] = {row["update"] for row in read_record(run)["history"][:1]}
    if resume:
        assert found == f"found an unfinished training of {run.name}: it continues after update {update}"
    else:
        assert found.startswith(f"found an unfinished training of {run.name}, at update {update}: it starts again; ")
        assert "trainer.resume=true to continue from there" in found


def test_a_training_without_a_checkpoint_starts_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = RunFiles(tmp_path, "cnn", ["0123456789ab"])
    assert find_unfinished(files) is None
    (tmp_path / ".cnn-0123456789ab.77.tmp").mkdir()
    found = find_unfinished(files)
    assert found is not None
    report_unfinished(found, resume=False)
    assert caplog.messages == [
        "found an unfinished training of cnn-0123456789ab: it kept no checkpoint and starts again; with "
        "trainer.resume=true a training keeps one after each validation, and the same command continues from it"
    ]
    with run_lock(tmp_path, "0123456789ab"):
        assert find_unfinished(files) is None, "another process is at work on it"


def test_what_is_left_of_training_must_be_readable(tmp_path: Path, folder_of_squares: Callable[..., Path]) -> None:
    root = folder_of_squares(20, 5)
    overrides = [*SMALL_CNN, "trainer.max_epochs=1"]
    run = _run(tmp_path, root, *overrides)
    (run / "record.json").unlink()
    for file in run.iterdir():
        file.unlink()
    run.rmdir()
    progress = run.parent / ".progress" / f"{run.name}.ckpt"
    progress.parent.mkdir()
    torch.save({"state_dict": {"w": torch.zeros(1000)}}, tmp_path / "whole.ckpt")
    whole = (tmp_path / "whole.ckpt").read_bytes()
    with ZipFile(tmp_path / "whole.ckpt") as parts, ZipFile(tmp_path / "code.ckpt", "w") as damaged:
        for name in parts.namelist():
            damaged.writestr(name, b"cos\nsystem\n." if name.endswith("data.pkl") else parts.read(name))
    code = (tmp_path / "code.ckpt").read_bytes()
    for left in (b"not a checkpoint", whole[: len(whole) // 2], b"", code):
        progress.write_bytes(left)
        with pytest.raises(ValueError, match=r"\.ckpt cannot be read, .*delete it"):
            _run(tmp_path, root, *overrides, "trainer.resume=true")
    assert _run(tmp_path, root, *overrides) == run, "without trainer.resume training starts anew"
    assert not progress.exists()


@pytest.mark.long
def test_a_checkpoint_that_lacks_a_part_is_refused(
    tmp_path: Path, folder_of_squares: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning would take some of them, and forget the best validation or the optimiser's momentum."""
    root = folder_of_squares(20, 5)
    overrides = [*SMALL_CNN, "trainer.max_epochs=3", "trainer.resume=true"]
    with killed_after(monkeypatch):
        _run(tmp_path, root, *overrides)
    (progress,) = (tmp_path / "runs" / ".progress").iterdir()
    whole = torch.load(progress, weights_only=True)
    callbacks = whole["callbacks"]
    damaged = [{key: value for key, value in whole.items() if key != left_out} for left_out in whole]
    damaged += [whole | {name: value} for name in whole for value in (None, "x", [], torch.zeros(2))]
    damaged += [whole | {"callbacks": callbacks | {name: {"x": 1}}} for name in callbacks]
    damaged += [whole | {"random": [torch.zeros(3)]}, whole | {"optimizer_states": [{}]}]
    damaged += [whole | {"network": whole["network"] | {"head.bias": torch.zeros(1)}}]
    for content in damaged:
        torch.save(content, progress)
        with pytest.raises(ValueError, match=r"cannot be read, so training cannot resume from it: delete it \("):
            _run(tmp_path, root, *overrides)
    torch.save(whole, progress)
    assert read_record(_run(tmp_path, root, *overrides))["resumed_at_update"] == [whole["global_step"]]


def test_time_before_a_kill_counts(
    tmp_path: Path, folder_of_squares: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half an hour of trainer.max_time's half hour was used: the training that resumes is at its end."""
    root = folder_of_squares(20, 5)
    overrides = [*SMALL_CNN, "trainer.max_epochs=9", "trainer.resume=true", "+trainer.max_time=00:00:30:00"]
    with killed_after(monkeypatch):
        _run(tmp_path, root, *overrides)
    (progress,) = (tmp_path / "runs" / ".progress").iterdir()
    stored = torch.load(progress, weights_only=True)
    assert 0 < stored["callbacks"]["Timer"]["time_elapsed"]["train"] < 1800
    stored["callbacks"]["Timer"]["time_elapsed"]["train"] = 1800.0
    torch.save(stored, progress)
    record = read_record(_run(tmp_path, root, *overrides))
    assert (record["updates"], record["resumed_at_update"]) == (stored["global_step"], []), "no update more"


def test_what_a_cpu_left_goes_on_on_a_gpu() -> None:
    """A GPU's generator has no state to go on from; the CPU's, which draws the batches, has."""
    state = _random_state(torch.device("cpu"))
    expected = torch.rand(3)
    _set_random_state(state, torch.device("cuda"))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.long
@pytest.mark.parametrize(
    ("model", "balance", "batch", "within", "budget"),
    [
        ([*SMALL_VIT, "model.backbone.drop_path=0"], "none", 25, 1e-4, PASSES),  # 26 cells: the second batch is of one
        ([*SMALL_VIT, "model.backbone.drop_path=0"], "class_weights", 8, 1e-4, [*BUDGET, "adapt.updates=7"]),
        ([*SMALL_VIT, "model.backbone.drop_path=0"], "sampling", 25, 1e-4, PASSES),
        ([*SMALL_VIT, "model.backbone.drop_path=0", "adapt.focal_gamma=2.0"], "adjusted_loss", 25, 1e-4, PASSES),
        ([*SMALL_VIT, "model.backbone.drop_path=0", "adapt.optimizer=muon"], "none", 8, 5e-3, PASSES),  # 16 bits inside
        (
            [
                "model=efficientnet",
                "model.backbone.input_px=16",
                "model.backbone.options.drop_path_rate=0",
                "adapt.lr=0.001",
            ],
            "none",
            9,
            2e-3,
            PASSES,
        ),
    ],
    ids=["customvit", "class weights, budget", "sampling", "focal, adjusted loss", "muon", "efficientnet"],
)
def test_two_processes_train_as_one(
    tmp_path: Path,
    folder_of_squares: Callable[..., Path],
    model: list[str],
    balance: str,
    batch: int,
    within: float,
    budget: list[str],
) -> None:
    root = folder_of_squares(20, 5)
    for file in sorted((root / "red").rglob("*.png"))[::2]:
        file.unlink()
    fixed = ["adapt.optimizer=adamw", *model, "augment=none", f"adapt.balance={balance}"]
    fixed += ["model.backbone.stem=single"] if "model=customvit_s" in model else []
    fixed += [f"adapt.batch_size={batch}", *budget]
    one, two = (read_record(_run(tmp_path / n, root, *fixed, f"trainer.devices={n}")) for n in ("1", "2"))
    assert one["identity"] == two["identity"]
    for alone, shared in zip(one["history"], two["history"], strict=True):
        assert alone == pytest.approx(shared, rel=within)


def test_several_devices_get_nothing_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A formatter that colours its lines holds the terminal, which no other process can be given."""
    coloured = logging.Formatter()
    monkeypatch.setattr(coloured, "terminal", sys.stderr, raising=False)
    handler = logging.StreamHandler()
    handler.setFormatter(coloured)
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(coloured)
    pickle.dumps(SpawnedProcesses())


def _normalise_share(rank: int, port: int, out: Path) -> None:
    init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    x, layers = _batch_and_layers()
    sync_batchnorm(layers)
    mine = x[rank::2].clone().requires_grad_()
    y = layers(mine)
    (y.square() * torch.arange(y.numel()).reshape(y.shape)).sum().backward()
    torch.save({"y": y.detach(), "x": mine.grad, "state": layers.state_dict()}, out / f"{rank}.pt")
    destroy_process_group()


def _batch_and_layers() -> tuple[Tensor, nn.Sequential]:
    torch.manual_seed(0)
    layers = nn.Sequential(BatchNormAct2d(4, act_layer=nn.SiLU), nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3)).double()
    return torch.randn(7, 4, 5, 5, dtype=torch.float64) * 2 + 1, layers


@pytest.mark.long
def test_shared_batch_norm_is_that_of_the_whole_batch(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(_normalise_share, (port, tmp_path), nprocs=2)
    x, layers = _batch_and_layers()
    x.requires_grad_()
    y = layers(x)
    parts = [y[rank::2] for rank in (0, 1)]  # 4 cells and 3
    sum((part.square() * torch.arange(part.numel()).reshape(part.shape)).sum() for part in parts).backward()
    assert x.grad is not None
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found["y"], parts[rank].detach())
        torch.testing.assert_close(found["x"], x.grad[rank::2])
        torch.testing.assert_close(found["state"], layers.state_dict())


@pytest.mark.parametrize(
    ("setting", "output"),
    [
        ("devices=0", "devices must be"),
        ("devices=auto", "devices must be"),
        ("devices=true", "devices must be"),
        ("max_epochs=0", "max_epochs must be"),
        ("max_steps=0", "max_steps must be"),
        ("resume=1", "resume must be"),
    ],
)
def test_bad_trainer_settings(
    tmp_path: Path, folder_of_squares: Callable[..., Path], setting: str, output: str
) -> None:
    with pytest.raises(ValueError, match=output):
        _run(tmp_path, folder_of_squares(), *SMALL_CNN, f"trainer.{setting}")
    assert not (tmp_path / "runs").exists()
