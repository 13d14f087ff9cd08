"""What a training keeps and logs: its best validation, a checkpoint, a line a round. Lightning's epochs are rounds."""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from cellpatch.models.backbone import trained_state
from cellpatch.runtime.atomic_io import atomic_write
from cellpatch.runtime.progress import format_seconds
from cellpatch.training.budget import Budget

log = logging.getLogger(__name__)

OnRound = Callable[[Mapping[str, float]], None]  # what is done with each row of a training's history
_STATE = ("score", "kept", "tensors", "scores", "history", "resumed")


def validated_score(trainer: pl.Trainer) -> float:
    """The macro-F1 of the validation that has just ended."""
    return float(trainer.callback_metrics["val_macro_f1"])


def progress_of(trainer: pl.Trainer, epoch_batches: int) -> dict[str, float]:
    """Updates and passes through the training cells that are done, as a row of the history."""
    return {"update": trainer.global_step, "epochs": (trainer.fit_loop.total_batch_idx + 1) / epoch_batches}


def metrics_of_round(trainer: pl.Trainer) -> dict[str, float]:
    """What the round that ends measured; Lightning keeps the values of an earlier validation if it had none."""
    validated = (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0
    values = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return {name: value for name, value in values.items() if validated or not name.startswith("val_")}


class BestWeights(pl.Callback):
    """Keeps the averaged weights of the round with the best validation macro-F1, and the scores of all rounds.

    Of equal scores it keeps the latest: with few cells all are soon predicted correctly, long before training is done.
    Lightning's `ModelCheckpoint` keeps the first of equal scores, writes a file for each better round, and stores the
    trained weights, not their average. `kept` is how far training was at the validation that was kept, `scores` are
    those of all validations, and `history` has a row for each round. `resumed` lists the updates that were done when
    training resumed after a kill. If several processes train, the first one writes the state to the file `shared`.
    """

    def __init__(self, epoch_batches: int, shared: Path | None = None) -> None:
        self.score = float("-inf")
        self.kept: dict[str, float] = {}
        self.tensors: dict[str, Tensor] = {}
        self.scores: list[float] = []
        self.history: list[dict[str, float]] = []
        self.resumed: list[int] = []
        self.began = False  # what a checkpoint holds was accepted
        self._seconds = 0.0  # of rounds before a kill
        self._epoch_batches = epoch_batches
        self._since = time.perf_counter()
        self._shared = shared

    @property
    def seconds(self) -> float:
        """Seconds since construction, plus those of the rounds before a kill."""
        return self._seconds + time.perf_counter() - self._since

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        self.began = True
        if trainer.current_epoch > 0:
            self.resumed.append(trainer.global_step)

    def on_validation_end(self, trainer: pl.Trainer, module: Any) -> None:
        score = validated_score(trainer)
        self.scores.append(score)
        if score >= self.score:
            self.score, self.kept = score, progress_of(trainer, self._epoch_batches)
            averaged = trained_state(module.average.network)
            self.tensors = {name: value.to("cpu", copy=True) for name, value in averaged.items()}

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        done = progress_of(trainer, self._epoch_batches)
        rate = max(group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups)
        self.history.append(done | {"lr": rate} | metrics_of_round(trainer))

    def teardown(self, trainer: pl.Trainer, module: Any, stage: str) -> None:
        if self._shared is not None and trainer.is_global_zero:
            with atomic_write(self._shared) as temporary:
                torch.save(self.state_dict(), temporary)

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in (*_STATE, "seconds")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if "kept" not in state_dict:
            raise ValueError(
                "an earlier version of cellpatch wrote this checkpoint, and it cannot be resumed: delete it"
            )
        vars(self).update({name: state_dict[name] for name in _STATE})
        self._seconds, self._since = state_dict["seconds"], time.perf_counter()


class RoundReport(pl.Callback):
    """Passes each row of the history on; when a training resumes, those from before it too."""

    def __init__(self, best: BestWeights, on_round: OnRound) -> None:
        self._best, self._on_round = best, on_round

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        for row in self._best.history:
            self._on_round(row)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        self._on_round(self._best.history[-1])


class UpdateLimit(pl.Callback):
    """Ends the training after so many updates, within a round if need be, and validates there; None is no limit.

    Lightning's `max_steps` ends a round without its validation, and resumes from a checkpoint as if within a round.
    """

    def __init__(self, max_updates: int | None) -> None:
        self._max_updates = max_updates

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self._max_updates:
            trainer.should_stop = True


class LastCheckpoint(pl.callbacks.Checkpoint):
    """Writes a checkpoint after each round; an interruption leaves the previous file whole.

    Lightning's `ModelCheckpoint` writes into the system's temporary folder and moves the file. Between file systems a
    move is a copy, and an interruption leaves half a file. It also does not store that early stopping has decided to
    end the training.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        self._file.parent.mkdir(exist_ok=True)
        temporary = self._file.with_name(f".{self._file.name}")  # the run's owner alone writes it
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            temporary.replace(self._file)

    def on_save_checkpoint(self, trainer: pl.Trainer, module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["stopped"] = trainer.should_stop

    def on_load_checkpoint(self, trainer: pl.Trainer, module: Any, checkpoint: dict[str, Any]) -> None:
        trainer.should_stop = checkpoint["stopped"]


class RoundLine(pl.Callback):
    """One log line a round where there is no progress bar: in a file, a pipe, a cluster's log."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._started, self._first = 0.0, 0

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        self._started, self._first = time.perf_counter(), trainer.global_step

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        if trainer.progress_bar_callback is not None or not trainer.is_global_zero:
            return
        values = metrics_of_round(trainer)
        shown = [f"{key} {values[key]:.4f}" for key in ("train_loss", "val_loss", "val_macro_f1") if key in values]
        done = progress_of(trainer, self._budget.epoch_batches)
        epochs = f"{round(done['epochs'], 1):g}/{round(self._budget.epochs, 1):g}"
        updates = f"{done['update']:g}/{module.planned_updates}"
        left = format_seconds(self._seconds_left(done["update"], module.planned_updates))
        log.info("epoch %s, update %s  %s  %s left", epochs, updates, "  ".join(shown), left)

    def _seconds_left(self, done: float, planned: int) -> float:
        """By the updates since this process began, validations included."""
        per_update = (time.perf_counter() - self._started) / max(1, done - self._first)
        return per_update * (planned - done)

    def on_train_end(self, trainer: pl.Trainer, module: Any) -> None:
        done, patience = trainer.global_step, module.fine_tuning.patience
        if done >= module.planned_updates or not trainer.is_global_zero:
            return
        if any(each.time_remaining() <= 0 for each in _timers(trainer)):
            log.info("ended at update %d: its time is over (trainer.max_time)", done)
        else:
            log.info("ended at update %d: %d validations without a better one (adapt.patience)", done, patience)


def _timers(trainer: pl.Trainer) -> list[Any]:
    """The clock of `max_time`, where there is one."""
    return [each for each in trainer.callbacks if isinstance(each, pl.callbacks.Timer)]  # type: ignore[attr-defined]
