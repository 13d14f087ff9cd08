"""How much of a bare loop's speed is left once augmentation, optics, averaging and logging are there?

    python benchmarks/training.py [--models cnn,resnet,customvit_s] [--epochs 6] [--json FILE]

Fits on synthetic cells as train.py does, W&B offline included. After each epoch a bare loop takes as many steps with
the same network and optimiser on random inputs that lie ready in memory, so that both meet the same machine. The
time of an epoch is without its validation, which is reported by itself; the first epoch is not counted.
"""

import tempfile
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from measured import Measured, option_parser, report, times_as_fast
from torch.nn.functional import cross_entropy

from cellpatch.config.assemble import assemble
from cellpatch.config.schema import compose_config
from cellpatch.data.dataset import CellDataset, open_dataset, open_store
from cellpatch.runs.experiment import Experiment
from cellpatch.runs.fits import gradient_fit
from cellpatch.runs.tracking.about import About
from cellpatch.runs.tracking.tracker import Tracking
from cellpatch.runtime.memory import tune_malloc
from cellpatch.training.adaptation import FineTuning
from cellpatch.training.optimizers import make_optimizer

MARKS = {"cnn": 0.85, "resnet": 0.95, "customvit_s": 0.95}


def now() -> float:
    """Seconds, after the device has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


class Beside(pl.Callback):
    """Times each epoch of a fit without its validation, and a bare loop of as many steps after it."""

    def __init__(self, input_px: int, batch_size: int) -> None:
        self.taken: list[tuple[float, float]] = []
        self.validation: list[float] = []
        self._input_px, self._batch_size = input_px, batch_size
        self._bare: Bare | None = None

    def on_train_epoch_start(self, trainer: pl.Trainer, module: Any) -> None:
        self._started = now()

    def on_validation_start(self, trainer: pl.Trainer, module: Any) -> None:
        self._paused = now()

    def on_validation_end(self, trainer: pl.Trainer, module: Any) -> None:
        self.validation.append(now() - self._paused)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        ours = now() - self._started - self.validation[-1]
        assert trainer.train_dataloader is not None
        n = len(trainer.train_dataloader.dataset.indices)
        self._bare = self._bare or Bare(module, n, self._input_px, self._batch_size)
        started = now()
        self._bare.epoch()
        self.taken.append((ours, now() - started))


class Bare:
    """The loop that one would write: a copy of the network, its optimiser, random inputs of its input side."""

    def __init__(self, module: Any, n: int, input_px: int, batch_size: int) -> None:
        network = deepcopy(module.network)
        self.model = torch.nn.Sequential(network.backbone, network.head).to(memory_format=torch.channels_last)
        settings = module.fine_tuning
        self.optimizer = make_optimizer(network, settings.optimizer, settings.lr, settings.weight_decay)
        self.device = module.device
        self.x = torch.rand(n, 3, input_px, input_px, device=self.device).to(memory_format=torch.channels_last)
        self.labels = torch.randint(0, network.head.out_features, (n,), device=self.device)
        self.batch_size = batch_size

    def epoch(self) -> None:
        """As many steps as an epoch of the fit has, in a random order."""
        self.model.train()
        with torch.enable_grad():
            for positions in torch.randperm(len(self.x), device=self.device).split(self.batch_size):
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                    loss = cross_entropy(self.model(self.x[positions]), self.labels[positions])
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()


def prepared(
    model: str, epochs: int, folder: Path, accelerator: str, flag_limit: int, logged: str
) -> tuple[Experiment, CellDataset]:
    """A training on 20000 synthetic cells and its cells."""
    overrides = [f"model={model}", "data.cells=20000", f"flag_limit={flag_limit}", f"trainer.max_epochs={epochs}"]
    overrides += [
        f"data.loading.store_dir={folder / 'stores'}",
        f"runs_dir={folder}",
        f"trainer.accelerator={accelerator}",
        f"logger={logged}",
    ]
    experiment = assemble(compose_config(overrides))
    tune_malloc()
    store = open_store(experiment.data)
    return experiment, open_dataset(store, experiment.data.split, experiment.flag_limit, experiment.seed)


def measure(
    model: str, epochs: int, folder: Path, accelerator: str, flag_limit: int = 256, logged: str = "wandb"
) -> list[Measured]:
    """Training cells/s against the bare loop's, and validation's part of an epoch."""
    experiment, dataset = prepared(model, epochs, folder, accelerator, flag_limit, logged)
    assert isinstance(experiment.adaptation, FineTuning)
    beside = Beside(experiment.model.input_px, experiment.adaptation.batch_size)
    with Tracking(experiment.trackers) as tracking:
        about = About(model, "0" * 12, experiment.settings, folder / ".tracking", folder, anew=True)
        tracking.start(about)
        gradient_fit(experiment, None, dataset).run(folder, tracking.log_round, callbacks=[beside])
    taken = np.array(beside.taken[1:])
    n = len(dataset.split.train)
    seconds = {"s an epoch": float(np.median(taken[:, 0])), "s of validation": float(np.median(beside.validation[1:]))}
    speed = Measured(f"train, {model}", (n / taken[:, 0]).tolist(), "cells/s", "at least", None, seconds)
    mark = MARKS.get(model) if accelerator == "cpu" else None
    return [times_as_fast(f"train, {model}", taken, mark), speed]


def main() -> None:
    options = option_parser("Time training against a bare loop.", models=",".join(MARKS), epochs=6).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = options.models.split(",")
        results = [row for model in models for row in measure(model, options.epochs, Path(folder), "cpu")]
    report(results, options.json)


if __name__ == "__main__":
    main()
