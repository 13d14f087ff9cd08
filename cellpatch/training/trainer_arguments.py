"""Arguments of Lightning's Trainer: which ones a user sets, and what to set instead of the others."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

# cellpatch's own settings under Lightning's names, checked by `TrainerSettings`.
DECIDED = ("max_epochs", "max_steps", "accelerator", "devices", "precision", "enable_progress_bar")


@dataclass(frozen=True)
class _Passed:
    """An argument that Lightning gets as it is: its values without effect, the check of another one, what is allowed.

    `within_epochs`: it counts passes or batches of a pass. `recorded`: its value without effect stays in a record, as
    in earlier versions.
    """

    neutral: tuple[object, ...]
    accepts: Callable[[object], bool]
    allowed: str
    within_epochs: bool = False
    recorded: bool = False


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 1


def _is_batches(value: object) -> bool:
    return _is_count(value) or (type(value) is float and 0 < value <= 1)


def _is_limit(value: object) -> bool:
    return type(value) in (int, float) and 0 <= float(str(value)) < float("inf")


def _is_time(value: object) -> bool:
    parts = re.fullmatch(r"(\d+):(\d\d):(\d\d):(\d\d)", value) if isinstance(value, str) else None
    return parts is not None and any(map(int, parts.groups()))


def _one_of(*allowed: object) -> Callable[[object], bool]:
    return lambda value: _is_among(value, allowed)


_COUNT = "a whole number >= 1"
_BATCHES = "a number of batches >= 1, or a share of them in (0, 1] with a decimal point"
_PASSED: Mapping[str, _Passed] = {
    "max_time": _Passed((None,), _is_time, "a time as DD:HH:MM:SS, such as 00:01:30:00"),
    "gradient_clip_val": _Passed((None,), _is_limit, "a number >= 0 or null", recorded=True),
    "gradient_clip_algorithm": _Passed((None,), _one_of("norm", "value"), "norm or value", recorded=True),
    "deterministic": _Passed((None, False), _one_of(True, "warn"), "true, false or warn"),
    "benchmark": _Passed((None, False), _one_of(True), "true or false"),
    "detect_anomaly": _Passed((False,), _one_of(True), "true or false"),
    "accumulate_grad_batches": _Passed((1,), _is_count, _COUNT, within_epochs=True, recorded=True),
    "check_val_every_n_epoch": _Passed((1,), _is_count, _COUNT, within_epochs=True, recorded=True),
    "limit_train_batches": _Passed((1.0,), _is_batches, _BATCHES, within_epochs=True, recorded=True),
    "min_epochs": _Passed((None,), _is_count, _COUNT, within_epochs=True),
    "min_steps": _Passed((None,), _is_count, _COUNT, within_epochs=True),
}
PASSED = tuple(_PASSED)

# Decided by cellpatch or without effect: the values that hold anyway, and what to set instead.
REFUSED: Mapping[str, tuple[tuple[object, ...], str]] = {
    "strategy": (("auto",), "trainer.devices=N trains in N processes"),
    "num_nodes": ((1,), "a run takes one machine; hydra/launcher=submitit_slurm spreads the runs of a grid over many"),
    "plugins": ((None,), "trainer.precision and trainer.devices choose them"),
    "sync_batchnorm": ((False,), "trainer.devices=N computes the statistics of batch norms over all processes"),
    "use_distributed_sampler": ((False,), "trainer.devices=N shares each batch among the processes"),
    "reload_dataloaders_every_n_epochs": ((0,), "cells are read once, and each pass is shuffled again"),
    "logger": ((None,), "logger=wandb logs a run, logger=none does not"),
    "log_every_n_steps": ((1, None), "adapt.validations sets how often a budget of updates is validated and logged"),
    "enable_autolog_hparams": ((True,), "record.json states all settings, and logger=wandb logs them"),
    "callbacks": ((None,), "adapt.patience stops early, trainer.resume=true writes checkpoints"),
    "enable_checkpointing": ((None, False), "trainer.resume=true writes a checkpoint after each validation"),
    "model_registry": ((None,), "the run's folder keeps the weights (weights.safetensors)"),
    "default_root_dir": ((None,), "runs_dir=DIR is where runs are stored"),
    "enable_model_summary": ((None, False), "the preview before a training states the number of parameters"),
    "profiler": ((None,), "python -m cProfile -s cumtime -m cellpatch train ... profiles a command"),
    "barebones": ((False,), "logger=none trainer.enable_progress_bar=false leaves out what is shown"),
    "fast_dev_run": ((False,), "dry_run=true checks a command, trainer.max_steps=1 trains one update"),
    "val_check_interval": ((None, 1.0), "trainer.max_steps=N adapt.validations=K validates K times within N updates"),
    "num_sanity_val_steps": ((0,), "trainer.max_steps=1 trains one update and validates"),
    "overfit_batches": ((0, 0.0), "flag_limit=1 trains on one cell per class"),
    "limit_val_batches": ((None, 1.0), "data.split.val_limit limits the validation cells per class"),
    "limit_test_batches": ((None, 1.0), "data.split.test_share sets the share of test cells"),
    "limit_predict_batches": ((None, 1.0), "flag_limit and data.split.val_limit make a run smaller"),
    "inference_mode": ((True,), "validation and tests never compute gradients"),
}


def why_refused(name: str) -> str | None:
    """What to set instead of an argument that cellpatch does not pass on; None for any other name."""
    return f"trainer.{name} is not a setting of cellpatch: {REFUSED[name][1]}" if name in REFUSED else None


def without_neutral(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments without those that change nothing at their value, the others in the form that a record states.

    Raises ValueError for an argument that cellpatch does not pass to Lightning's Trainer, and a value out of range.
    """
    kept = {}
    for name, value in arguments.items():
        if name in REFUSED and not _is_among(value, REFUSED[name][0]):
            raise ValueError(why_refused(name))
        passed = _PASSED.get(name)
        if passed is not None:
            _check_value(name, passed, value)
        dropped = name in REFUSED or (passed is not None and not passed.recorded and _is_among(value, passed.neutral))
        if not dropped:
            kept[name] = value
    if type(kept.get("gradient_clip_val")) in (int, float):
        kept["gradient_clip_val"] = float(kept["gradient_clip_val"]) or None  # Lightning clips nothing at 0
    if kept.get("gradient_clip_algorithm") == "norm":
        kept["gradient_clip_algorithm"] = None  # Lightning's default
    return kept


def check_passed(arguments: Mapping[str, Any], max_epochs: int | None, max_steps: int | None) -> None:
    """Raise ValueError for an argument that is not passed to Lightning, a value out of range, or a contradiction."""
    for name, value in arguments.items():
        passed = _PASSED.get(name)
        if passed is None:
            raise ValueError(why_refused(name) or f"unknown key trainer.{name}; allowed are {', '.join(PASSED)}")
        _check_value(name, passed, value)
        if passed.within_epochs and max_epochs is None and not _is_among(value, passed.neutral):
            raise ValueError(f"trainer.{name}={value} needs trainer.max_epochs: it counts within epochs")
    _check_contradictions(arguments, max_epochs, max_steps)


def _check_value(name: str, passed: _Passed, value: object) -> None:
    if not _is_among(value, passed.neutral) and not passed.accepts(value):
        raise ValueError(f"trainer.{name} must be {passed.allowed}, but got {value!r}")


def _check_contradictions(arguments: Mapping[str, Any], max_epochs: int | None, max_steps: int | None) -> None:
    for name in ("min_epochs", "min_steps"):
        if max_steps is not None and arguments.get(name) is not None:
            raise ValueError(f"trainer.{name} would go past trainer.max_steps={max_steps}: leave one")
    for name in ("min_epochs", "check_val_every_n_epoch"):
        value = arguments.get(name)
        if max_epochs is not None and value is not None and value > max_epochs:
            raise ValueError(
                f"trainer.{name}={value} must be at most trainer.max_epochs={max_epochs}"
                + (": the training ends before its first validation" if name == "check_val_every_n_epoch" else "")
            )
    if arguments.get("max_time") is not None and (arguments.get("check_val_every_n_epoch") or 1) > 1:
        raise ValueError(
            "trainer.max_time may end a training before its first validation: leave trainer.check_val_every_n_epoch out"
        )
    if arguments.get("gradient_clip_algorithm") == "value" and not arguments.get("gradient_clip_val"):
        raise ValueError("trainer.gradient_clip_algorithm=value has no effect without trainer.gradient_clip_val")


def _is_among(value: object, neutral: tuple[object, ...]) -> bool:
    return any(type(value) is type(each) and value == each for each in neutral)  # 1 == 1.0 == True, but are not alike
