"""Fit a network to a dataset by gradients, with Lightning."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from cellpatch.data.augment import AlbumentationsAugment, DeviceAugment
from cellpatch.data.datamodule import Batches, CellData
from cellpatch.data.dataset import CellDataset
from cellpatch.data.loading import Loading
from cellpatch.metrics.prior import ClassPrior
from cellpatch.metrics.validations import best_validation
from cellpatch.models.backbone import load_trained, trained_state
from cellpatch.models.network import Network, assemble_network
from cellpatch.models.predictor import FitFacts, FitResult, make_predict_fn
from cellpatch.models.spec import ModelSpec
from cellpatch.optics.conditions import CLEAN, Condition
from cellpatch.optics.operator import OpticalPath, RandomOptics
from cellpatch.optics.scaling import scaled_paths
from cellpatch.runtime.errors import CHECKPOINT_READ_ERRORS
from cellpatch.training.adaptation import FineTuning
from cellpatch.training.budget import Budget, plan_budget
from cellpatch.training.callbacks import BestWeights, LastCheckpoint, OnRound, RoundLine, RoundReport, UpdateLimit
from cellpatch.training.checkpoint import cannot_resume, rounds_done
from cellpatch.training.lightning_module import Classifier, TrainingInput
from cellpatch.training.processes import SpawnedProcesses, quiet_lightning
from cellpatch.training.trainer_settings import TrainerSettings


@dataclass(frozen=True, kw_only=True)
class GradientFit:
    """A training by gradients: what is trained, on which cells, how.

    `weights` is the fingerprint that the model's published weights must have. `blur` lists the conditions that training
    draws from; without any it sees clean crops. `start` holds the tensors that the backbone starts from, if it was
    pretrained without labels.
    """

    model: ModelSpec
    weights: str | None
    adaptation: FineTuning
    dataset: CellDataset
    path: OpticalPath
    blur: Sequence[Condition]
    augment: DeviceAugment | AlbumentationsAugment | None
    loading: Loading
    trainer: TrainerSettings
    inference_batch: int
    seed: int
    start: Mapping[str, Tensor] | None = None

    def run(
        self,
        folder: Path,
        on_round: OnRound | None = None,
        checkpoint: Path | None = None,
        callbacks: Sequence[pl.Callback] = (),
    ) -> FitResult:
        """Train until the validation macro-F1 stops rising and keep the best validation, the latest of equal ones.

        With `checkpoint`, a file, training continues from the round that it holds, if it exists, and keeps it up to
        date. Raises ValueError if it cannot be read. `on_round` gets each row of the history when its round ends; on
        several devices, when the training ends.
        """
        several = self.trainer.devices > 1
        pl.seed_everything(self.seed, workers=True, verbose=False)
        budget = plan_budget(self.adaptation, self.trainer, len(self.dataset.split.train))
        best = BestWeights(budget.epoch_batches, folder / "best.ckpt" if several else None)
        data, module = self._parts(budget)
        ours = [best, pl.callbacks.EarlyStopping("val_macro_f1", mode="max", patience=self.adaptation.patience)]
        ours += [UpdateLimit(budget.max_updates), RoundLine(budget)]
        ours += [RoundReport(best, on_round)] if on_round and not several else []
        ours += [LastCheckpoint(checkpoint)] if checkpoint else []
        with quiet_lightning(), _same_torch_flags():
            trainer = make_trainer(self.trainer, budget, folder, [*ours, *callbacks])
            resumed_from = checkpoint if checkpoint is not None and checkpoint.exists() else None
            if resumed_from:
                data.first_round = rounds_done(resumed_from)
            self._fit(trainer, module, data, best, resumed_from)
        if several:  # they were processes of their own
            best.load_state_dict(torch.load(folder / "best.ckpt", weights_only=True))
            (folder / "best.ckpt").unlink()
            if on_round is not None:
                for row in best.history:
                    on_round(row)
        if not best.scores:
            raise ValueError("the training ended before its first validation")
        load_trained(module.network, best.tensors)
        module.loss.fold_into(module.network.head)
        facts = _facts(best, trainer.precision, self.adaptation.prior(self._class_counts))
        predict = make_predict_fn(
            module.network, self.dataset.store, self.path, self.trainer.device, self.inference_batch
        )
        return FitResult(predict, trained_state(module.network), facts, best.seconds)

    def _fit(
        self, trainer: pl.Trainer, module: Classifier, data: CellData, best: BestWeights, checkpoint: Path | None
    ) -> None:
        try:
            with attention_for(self.trainer):
                trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
        except SystemExit:
            if trainer.interrupted:  # Lightning exits at Ctrl-C without a message
                raise KeyboardInterrupt from None
            raise
        except CHECKPOINT_READ_ERRORS as error:
            if checkpoint is None or best.began or self.trainer.devices > 1:  # processes of their own keep `began`
                raise
            raise cannot_resume(checkpoint, error) from error

    def _parts(self, budget: Budget) -> tuple[CellData, Classifier]:
        dataset, augment = self.dataset, self.augment
        on_cpu = augment if isinstance(augment, AlbumentationsAugment) else None
        batches = Batches(self.adaptation.batch_size, budget.batches_drawn, self.adaptation.balance == "sampling")
        data = CellData(dataset, batches, self.inference_batch, self.seed, self.loading, on_cpu)
        counts = self._class_counts
        network, rates = new_network(self.model, self.weights, self.adaptation, self.path, len(counts))
        if self.start is not None:
            network.backbone.load_state_dict(self.start)
        on_device = augment if isinstance(augment, DeviceAugment) else None
        paths = [self.path] if on_device is None else scaled_paths(self.path, *on_device.scale)
        drawn = [path.under(condition) for path in paths for condition in self.blur or [CLEAN]]
        optics = RandomOptics(drawn) if len(drawn) > 1 else network.optics
        inputs = TrainingInput(on_device, optics)
        return data, Classifier(network, counts, self.adaptation, rates, inputs, budget.max_updates)

    @property
    def _class_counts(self) -> list[int]:
        dataset = self.dataset
        return np.bincount(dataset.labels[dataset.split.train], minlength=len(dataset.classes)).tolist()


def new_network(
    model: ModelSpec, weights: str | None, adaptation: FineTuning, path: OpticalPath, n_classes: int
) -> tuple[Network, dict[str, float]]:
    """A network before training, and the trained backbone parameters' shares of the learning rate."""
    backbone = model.open(weights)
    rates = adaptation.freeze_and_scale_lr(backbone)
    head = nn.Linear(backbone.num_features, n_classes)
    return assemble_network(backbone, path.under(), head), rates


def _facts(best: BestWeights, precision: str, prior: ClassPrior) -> FitFacts:
    kept, last = best.kept, best.history[-1]
    return FitFacts(
        val_macro_f1=best.score,
        precision=precision,
        best_epoch=ceil(kept["epochs"]) - 1,
        epochs=last["epochs"],
        best_update=int(kept["update"]),
        updates=int(last["update"]),
        best_validation=best_validation(best.scores),
        resumed_at_update=best.resumed,
        prior=prior,
        history=best.history,
    )


def make_trainer(settings: TrainerSettings, budget: Budget, folder: Path, callbacks: list[pl.Callback]) -> pl.Trainer:
    """Lightning's Trainer for one run, which is one job to a cluster whatever its scheduler started."""
    decided: dict[str, Any] = {
        "max_epochs": budget.rounds,
        "accelerator": settings.accelerator,
        "devices": settings.devices,
        "precision": settings.resolved_precision,
        "enable_progress_bar": settings.enable_progress_bar and sys.stderr.isatty(),
        "callbacks": callbacks,
        "strategy": SpawnedProcesses() if settings.devices > 1 else "auto",
        "plugins": [LightningEnvironment()],
        "logger": False,
        "default_root_dir": str(folder),
        "enable_model_summary": False,
        "enable_checkpointing": any(isinstance(each, pl.callbacks.Checkpoint) for each in callbacks),
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
    }
    return pl.Trainer(**{**settings.others, **decided})


@contextmanager
def _same_torch_flags() -> Iterator[None]:
    """Undo what `deterministic` and `benchmark` set for the whole process: the next run of a grid has its own."""
    deterministic, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    benchmark = torch.backends.cudnn.benchmark
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark


def attention_for(settings: TrainerSettings) -> AbstractContextManager[object]:
    """Attention step by step where 16-bit training runs on a CPU: torch 2.15's fused backward is slow there.

    customvit_s, a step of 64 cells, one core: 630 to 730 ms fused and 500 to 530 ms so; in 32 bits 770 ms fused.
    """
    slow = settings.device.type == "cpu" and settings.precision == "bf16-mixed"
    return sdpa_kernel(SDPBackend.MATH) if slow else nullcontext()
