"""Every argument of Lightning's Trainer trains, or is refused by name before any cell is read."""

import inspect
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from conftest import config_of
from stored import read_record

from cellpatch.config.assemble import assemble
from cellpatch.config.schema import compose_config
from cellpatch.runs.identity import identity
from cellpatch.sweeps.train import train
from cellpatch.training.trainer_arguments import DECIDED, PASSED, REFUSED

FolderMaker = Callable[..., Path]
SMALL_CNN = ["model=cnn", "model.backbone.input_px=16", "model.backbone.widths=[4]", "adapt.batch_size=8"]
TRAINED = {  # the value of an argument that is passed on, and the updates of two passes of five batches
    "max_time": ("00:00:30:00", 10),
    "gradient_clip_val": ("0.5", 10),
    "gradient_clip_algorithm": ("value", 10),
    "deterministic": ("true", 10),
    "benchmark": ("true", 10),
    "detect_anomaly": ("true", 10),
    "accumulate_grad_batches": ("2", 6),
    "check_val_every_n_epoch": ("2", 10),
    "limit_train_batches": ("0.5", 4),
    "min_epochs": ("2", 10),
    "min_steps": ("7", 10),
}
OTHER_VALUES = {"strategy": "ddp", "num_nodes": "2", "logger": "true", "callbacks": "[]", "plugins": "[]"}


def test_every_argument_of_lightning_is_decided_passed_or_refused() -> None:
    ours = [*DECIDED, *PASSED, *REFUSED]
    assert sorted(ours) == sorted(inspect.signature(pl.Trainer).parameters)
    assert set(TRAINED) == set(PASSED)


@pytest.mark.parametrize("name", PASSED)
def test_what_is_passed_on_trains(tmp_path: Path, folder_of_squares: FolderMaker, name: str) -> None:
    value, updates = TRAINED[name]
    root, flags = folder_of_squares(20, 5), torch.are_deterministic_algorithms_enabled()
    config = config_of(tmp_path, root, *SMALL_CNN, "flag_limit=13", "trainer.max_epochs=2", f"++trainer.{name}={value}")
    run = tmp_path / "runs" / train(config).run
    record = read_record(run)
    assert str(record["config"]["trainer"][name]).lower() == value
    assert record["updates"] == updates
    assert all("val_macro_f1" in row for row in record["history"][1:])
    assert ("val_macro_f1" in record["history"][0]) == (name != "check_val_every_n_epoch")
    assert torch.are_deterministic_algorithms_enabled() == flags, "the next run of a grid has its own"


@pytest.mark.parametrize("plus", ["", "++"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_named_with_what_to_set_instead(name: str, plus: str) -> None:
    value = OTHER_VALUES.get(name, "7")
    with pytest.raises(ValueError, match=rf"trainer\.{name} is not a setting of cellpatch: .{{20}}"):
        assemble(compose_config(["model=cnn", f"{plus}trainer.{name}={value}"]))


@pytest.mark.parametrize("name", PASSED)
def test_a_key_that_needs_a_plus_is_proposed_with_it(name: str) -> None:
    if name == "gradient_clip_val":
        return assert_composes("trainer.gradient_clip_val=0.5")
    with pytest.raises(ValueError, match=rf"type it with a plus, \+trainer\.{name}=\.\.\.$"):
        compose_config(["model=cnn", f"trainer.{name}=1"])
    return assert_composes(f"+trainer.{name}=1")


def assert_composes(override: str) -> None:
    assert compose_config(["model=cnn", override]).trainer[override.lstrip("+").partition("=")[0].partition(".")[2]]


@pytest.mark.parametrize(
    "neutral",
    [f"{name}={value}" for name, (values, _) in REFUSED.items() for value in values]
    + ["max_time=null", "deterministic=false", "benchmark=false", "detect_anomaly=false", "min_epochs=null"]
    + ["gradient_clip_val=1", "gradient_clip_algorithm=norm", "limit_train_batches=1.0", "min_steps=null"],
)
def test_a_value_without_effect_changes_no_identity(neutral: str) -> None:
    def of(*overrides: str) -> str:
        return identity(assemble(compose_config(["model=cnn", *overrides])).settings, "data", None)

    assert of(f"++trainer.{neutral.replace('None', 'null')}") == of()


def test_no_limit_of_gradients_is_one_identity() -> None:
    clipped = [f"trainer.gradient_clip_val={value}" for value in ("null", "0", "0.0", "1")]
    null, *zeros, one = (
        identity(assemble(compose_config(["model=cnn", each])).settings, "data", None) for each in clipped
    )
    assert zeros == [null, null]
    assert one != null


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("+trainer.max_time=3", "trainer.max_time must be a time as DD:HH:MM:SS, .*, but got 3"),
        ("+trainer.max_time=00:00:00:00", "trainer.max_time must be a time"),
        ("trainer.gradient_clip_val=-1", "trainer.gradient_clip_val must be a number >= 0 or null, but got -1"),
        ("trainer.gradient_clip_val=true", "trainer.gradient_clip_val must be a number >= 0 or null, but got True"),
        ("+trainer.gradient_clip_algorithm=x", "must be norm or value, but got 'x'"),
        ("+trainer.gradient_clip_algorithm=value trainer.gradient_clip_val=null", "no effect without"),
        ("+trainer.deterministic=yes", "must be true, false or warn, but got 'yes'"),
        ("+trainer.accumulate_grad_batches=0 trainer.max_epochs=2", "must be a whole number >= 1, but got 0"),
        ("+trainer.limit_train_batches=0.0 trainer.max_epochs=2", "must be a number of batches >= 1, or a share"),
        ("+trainer.min_epochs=5 trainer.max_epochs=2", "min_epochs=5 must be at most trainer.max_epochs=2"),
        ("+trainer.max_time=00:01:00:00 +trainer.check_val_every_n_epoch=2 trainer.max_epochs=4", "may end a training"),
    ],
)
def test_values_that_lightning_would_stumble_over(overrides: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        assemble(compose_config(["model=cnn", *shlex.split(overrides)]))


def test_too_small_a_share_of_the_batches_is_refused(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    few = ["trainer.max_epochs=2", "+trainer.limit_train_batches=0.01"]
    with pytest.raises(ValueError, match=r"limit_train_batches=0.01 leaves none of \d batches of an epoch"):
        train(config_of(tmp_path, folder_of_squares(20, 5), *SMALL_CNN, *few))


def test_time_that_is_over_ends_a_training_with_a_validation(
    tmp_path: Path, folder_of_squares: FolderMaker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elapsed(timer: Any, stage: str = "train") -> float:
        return 0.0 if timer.steps < 3 else 60.0

    def count(timer: Any, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        timer.steps = trainer.global_step
        timer._check_time_remaining(trainer)

    monkeypatch.setattr(pl.callbacks.Timer, "steps", 0, raising=False)
    monkeypatch.setattr(pl.callbacks.Timer, "time_elapsed", elapsed)
    monkeypatch.setattr(pl.callbacks.Timer, "on_train_batch_end", count)
    limited = ["adapt.updates=30", "adapt.min_epochs=0", "adapt.validations=3", "+trainer.max_time=00:00:01:00"]
    with caplog.at_level("INFO"):
        config = config_of(tmp_path, folder_of_squares(20, 5), *SMALL_CNN, *limited, "trainer.resume=true")
        record = read_record(tmp_path / "runs" / train(config).run)
    assert (record["updates"], record["best_update"]) == (3, 3)
    assert "ended at update 3: its time is over (trainer.max_time)" in caplog.text


def test_a_probe_names_what_does_not_change_it(caplog: pytest.LogCaptureFixture) -> None:
    probe = ["model=efficientnet_lite0", "adapt=linear_probe", "trainer.accelerator=cpu"]
    assemble(compose_config(probe))
    assert "no effect" not in caplog.text
    assemble(compose_config([*probe, "trainer.max_epochs=3", "+trainer.deterministic=true", "trainer.devices=2"]))
    expected = "trainer.max_epochs, trainer.deterministic: no effect with adapt=linear_probe, which trains on features"
    assert expected in caplog.text
