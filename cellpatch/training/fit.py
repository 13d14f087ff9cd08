"""Fit a model to a study by gradients with Lightning."""

import logging
import pickle
import sys
import warnings
import zipfile
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from cellpatch.config.instantiate import build, without
from cellpatch.data.augment import AlbumentationsAugment
from cellpatch.data.datamodule import CellData, class_weights
from cellpatch.data.dataset import CellDataset
from cellpatch.data.store.reader import Geometry
from cellpatch.models.backbone import load_trained, trained_state
from cellpatch.models.network import Network, build_optics, open_backbone
from cellpatch.models.predictor import FitResult, make_predict_fn
from cellpatch.optics.operator import RandomOptics
from cellpatch.runtime.device import inference_batch_size, resolve_device
from cellpatch.runtime.errors import CHECKPOINT_READ_ERRORS
from cellpatch.training.adaptation import FineTuning
from cellpatch.training.callbacks import BestWeights, LastCheckpoint
from cellpatch.training.lightning_module import Classifier

log = logging.getLogger(__name__)
# Batches come whole from memory, so Lightning's advice to start worker processes is wrong here; its notices at
# each start tell a user nothing, and what it warns itself of (pytree) a user cannot mend.
warnings.filterwarnings("ignore", message=".*does not have many workers.*")
warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
warnings.filterwarnings("ignore", message=".*The `srun` command is available.*")  # a run is one process to Slurm
warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")  # frozen parts are, on purpose
logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)


class EpochLine(pl.Callback):
    """One line an epoch where there is no progress bar: in a file, a pipe, a cluster's log."""

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.progress_bar_callback is not None or not trainer.is_global_zero:
            return
        values = trainer.callback_metrics
        shown = [f"{key} {values[key]:.4f}" for key in ("train_loss", "val_loss", "val_macro_f1") if key in values]
        log.info("epoch %d/%s  %s", trainer.current_epoch + 1, trainer.max_epochs, "  ".join(shown))


def fit_by_gradients(
    plain: dict[str, Any],
    study: CellDataset,
    schedule: FineTuning,
    fingerprint: str | None,
    folder: Path,
    logger: Any,
    progress: Path | None = None,
    callbacks: Sequence[pl.Callback] = (),
) -> FitResult:
    """Train until the validation macro-F1 stops rising and keep the best epoch, the latest of several.

    With `progress`, a file, training goes on from the epoch that the file holds, if it is there, and keeps it up to
    date. Raises ValueError if it cannot be read.
    """
    several = plain["trainer"]["devices"] > 1
    pl.seed_everything(plain["seed"], workers=True, verbose=False)
    best = BestWeights(folder / "best.ckpt" if several else None)
    data, model = _assemble(plain, study, schedule, fingerprint)
    ours = [best, pl.callbacks.EarlyStopping("val_macro_f1", mode="max", patience=schedule.patience)]
    ours += [EpochLine()] + ([LastCheckpoint(progress)] if progress else [])
    trainer = _trainer(plain["trainer"], folder, [*ours, *callbacks], None if several else logger)
    begun = progress if progress is not None and progress.exists() else None
    if begun:
        _check_readable(begun)
    try:
        with _attention_of(plain["trainer"]):
            trainer.fit(model, data, ckpt_path=begun, weights_only=True)
    except SystemExit:
        if trainer.interrupted:  # Lightning exits at Ctrl-C without a word
            raise KeyboardInterrupt from None
        raise
    if several:  # they were processes of their own
        best.load_state_dict(torch.load(folder / "best.ckpt", weights_only=True))
        (folder / "best.ckpt").unlink()
        for epoch, scores in enumerate(best.history if logger else []):
            logger.log_metrics(scores | {"epoch": epoch})
    load_trained(model.network, best.tensors)
    return FitResult(
        make_predict_fn(plain, study, model.network),
        trained_state(model.network),
        {
            "precision": trainer.precision,
            "best_epoch": best.epoch,
            "epochs": len(best.history),
            "resumed_at_epoch": best.resumed,
            "history": best.history,
            "val_macro_f1": best.score,
        },
        {"train": best.seconds},
    )


def _check_readable(progress: Path) -> None:
    """Raise ValueError if a machine's end left half a file."""
    try:
        torch.load(progress, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, zipfile.BadZipFile, *CHECKPOINT_READ_ERRORS) as error:
        raise ValueError(f"{progress} cannot be read and nothing goes on from it: delete it") from error


def _attention_of(settings: dict[str, Any]) -> AbstractContextManager[object]:
    """Attention step by step where 16-bit training runs on a CPU: torch 2.15's fused backward is slow there.

    customvit, a step of 64 cells, one core: 630 to 730 ms fused and 500 to 530 ms so; in 32 bits 770 ms fused.
    """
    slow = resolve_device(settings).type == "cpu" and settings["precision"] == "bf16-mixed"
    return sdpa_kernel(SDPBackend.MATH) if slow else nullcontext()


def _assemble(
    plain: dict[str, Any], study: CellDataset, schedule: FineTuning, fingerprint: str | None
) -> tuple[CellData, Classifier]:
    augment = build(plain["augment"]) or None
    on_cpu = isinstance(augment, AlbumentationsAugment)
    data = CellData(
        study.store,
        study.split,
        study.labels,
        schedule.batch_size,
        inference_batch_size(plain["model"]["backbone"]["input_px"], resolve_device(plain["trainer"])),
        plain["seed"],
        build(plain["data"]["loading"]),
        augment if on_cpu else None,
    )
    n_classes = len(study.classes)
    network, rates = new_network(plain, schedule, fingerprint, study.store.geometry, n_classes)
    balanced = schedule.class_weights == "balanced"
    weights = class_weights(study.labels[study.split.train], n_classes) if balanced else None
    drawn = build(plain["optics"]).drawn(study.store.geometry.field_um)
    optics = (
        RandomOptics([build_optics(plain, study.store.geometry, each) for each in drawn]) if drawn else network.optics
    )
    return data, Classifier(network, n_classes, schedule, rates, None if on_cpu else augment, optics, weights)


def _trainer(settings: dict[str, Any], folder: Path, callbacks: list[pl.Callback], logger: Any) -> pl.Trainer:
    bf16 = resolve_device(settings).type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    settings = without(settings, "resume") | {
        "precision": settings["precision"] or ("bf16-mixed" if bf16 else "32-true"),
        "enable_progress_bar": settings["enable_progress_bar"] and sys.stderr.isatty(),
    }
    several = settings["devices"] > 1
    return build(
        settings,
        callbacks=callbacks,
        strategy="ddp_spawn" if several else "auto",
        plugins=[LightningEnvironment()],  # one run is one job to a cluster, whatever its scheduler set around it
        logger=logger or False,
        default_root_dir=str(folder),
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(each, pl.callbacks.Checkpoint) for each in callbacks),
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )


def new_network(
    plain: dict[str, Any],
    schedule: FineTuning,
    fingerprint: str | None,
    geometry: Geometry,
    n_classes: int,
) -> tuple[Network, dict[str, float]]:
    """A network before training, and the trained backbone parameters' shares of the learning rate."""
    backbone = open_backbone(plain["model"], fingerprint)
    rates = schedule.prepare(backbone)
    head = nn.Linear(backbone.num_features, n_classes)
    network = Network(backbone, build_optics(plain, geometry), head)
    # Two CPU cores, batches of 64, this project's eight networks: up to 1.9 times as many cells/s as channels first.
    return network.to(memory_format=torch.channels_last), rates
