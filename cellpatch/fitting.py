"""Fit one model to a study: by gradients with Lightning, or a probe on the features of a frozen backbone."""

import pickle
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from cellpatch import review
from cellpatch.adapt import Schedule
from cellpatch.augment import AlbumentationsAugment
from cellpatch.checkpoints import Best, Resume
from cellpatch.classifier import Classifier
from cellpatch.conditions import CLEAN, Condition
from cellpatch.config import build, without
from cellpatch.data.datamodule import CellData, class_weights, to_pixels
from cellpatch.data.loading import Loading
from cellpatch.embeddings import Cache
from cellpatch.memory import cells_at_a_time
from cellpatch.models.backbone import Backbone, load_trained, trained_state
from cellpatch.network import Network, device_of, new_network, open_backbone, optics_of, restore
from cellpatch.optics import DrawnOptics
from cellpatch.probe import Probe
from cellpatch.record import read_record
from cellpatch.study import Study

# Probabilities [n, classes] of the given cells under each condition.
Predict = Callable[[Sequence[Condition], np.ndarray], dict[Condition, np.ndarray]]


@dataclass(frozen=True)
class Fitted:
    """What a fit leaves: how to predict cells, the trained tensors, facts for the record, seconds."""

    predict: Predict
    state: dict[str, Tensor]
    facts: dict[str, Any]
    seconds: dict[str, float]


def fit_by_gradients(
    plain: dict[str, Any],
    study: Study,
    schedule: Schedule,
    fingerprint: str | None,
    folder: Path,
    logger: Any,
    progress: Path | None = None,
    callbacks: Sequence[pl.Callback] = (),
) -> Fitted:
    """Train until the validation macro-F1 stops rising and keep the best epoch, the latest of several.

    With `progress`, a file, training goes on from the epoch that the file holds, if it is there, and keeps it up to
    date. Raises ValueError if it cannot be read.
    """
    several = plain["trainer"]["devices"] > 1
    best = Best(folder / "best.ckpt" if several else None)
    data, model = _assemble(plain, study, schedule, fingerprint)
    ours = [best, pl.callbacks.EarlyStopping("val_macro_f1", mode="max", patience=schedule.patience)]
    ours += [review.EpochLine()] + ([Resume(progress)] if progress else [])
    trainer = _trainer(plain["trainer"], folder, [*ours, *callbacks], None if several else logger)
    begun = progress if progress is not None and progress.exists() else None
    try:
        with _attention_of(plain["trainer"]):
            trainer.fit(model, data, ckpt_path=begun, weights_only=True)
    except SystemExit:
        if trainer.interrupted:  # Lightning exits at Ctrl-C without a word
            raise KeyboardInterrupt from None
        raise
    except (pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise ValueError(f"{begun} cannot be read and nothing goes on from it: delete it") from error
    if several:  # they were processes of their own
        best.load_state_dict(torch.load(folder / "best.ckpt", weights_only=True))
        (folder / "best.ckpt").unlink()
        for epoch, scores in enumerate(best.history if logger else []):
            logger.log_metrics(scores | {"epoch": epoch})
    load_trained(model.network, best.tensors)
    return Fitted(
        _predictor(plain, study, model.network),
        trained_state(model.network),
        {
            "best_epoch": best.epoch,
            "epochs": len(best.history),
            "resumed_at_epoch": best.resumed,
            "history": best.history,
            "val_macro_f1": best.score,
        },
        {"train": best.seconds},
    )


def _attention_of(settings: dict[str, Any]) -> AbstractContextManager[object]:
    """Attention step by step where 16-bit training runs on a CPU: torch 2.15's fused backward is slow there.

    customvit, a step of 64 cells, one core: 630 to 730 ms fused and 500 to 530 ms so; in 32 bits 770 ms fused.
    """
    slow = device_of(settings).type == "cpu" and settings["precision"] == "bf16-mixed"
    return sdpa_kernel(SDPBackend.MATH) if slow else nullcontext()


def _predictor(plain: dict[str, Any], study: Study, network: Network) -> Predict:
    """Predict in one pass over the cells and in 32 bits: a batch of crops is read once for all conditions."""
    store = study.store
    loading: Loading = build(plain["data"]["loading"])
    device = device_of(plain["trainer"])
    n = loading.embedding_batch or cells_at_a_time(plain["model"]["backbone"]["input_px"], device)

    @torch.inference_mode()
    def predict(conditions: Sequence[Condition], cells: np.ndarray) -> dict[Condition, np.ndarray]:
        network.to(device).eval()
        optics = [optics_of(plain, store.geometry, condition).to(device) for condition in conditions]
        found: list[list[np.ndarray]] = [[] for _ in conditions]
        for start in range(0, len(cells), n):
            crops = torch.from_numpy(store.crops(cells[start : start + n]))
            pixels = to_pixels(crops.to(device))
            for parts, seen in zip(found, optics, strict=True):
                parts.append(network.head(network.backbone(seen(pixels))).softmax(dim=1).cpu().numpy())
        return dict(zip(conditions, map(np.concatenate, found), strict=True))

    return predict


def _assemble(
    plain: dict[str, Any], study: Study, schedule: Schedule, fingerprint: str | None
) -> tuple[CellData, Classifier]:
    augment = build(plain["augment"]) or None
    on_cpu = isinstance(augment, AlbumentationsAugment)
    data = CellData(
        study.store,
        study.split,
        study.labels,
        schedule.batch_size,
        plain["seed"],
        build(plain["data"]["loading"]),
        augment if on_cpu else None,
    )
    n_classes = len(study.classes)
    network, rates = new_network(plain, schedule, fingerprint, study.store.geometry, n_classes)
    balanced = schedule.class_weights == "balanced"
    weights = class_weights(study.labels[study.split.train], n_classes) if balanced else None
    drawn = build(plain["optics"]).drawn(study.store.geometry.field_um)
    optics = DrawnOptics([optics_of(plain, study.store.geometry, each) for each in drawn]) if drawn else network.optics
    return data, Classifier(network, n_classes, schedule, rates, None if on_cpu else augment, optics, weights)


def _trainer(settings: dict[str, Any], folder: Path, callbacks: list[pl.Callback], logger: Any) -> pl.Trainer:
    bf16 = device_of(settings).type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
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


def fit_probe(plain: dict[str, Any], study: Study, probe: Probe, fingerprint: str | None, logger: Any) -> Fitted:
    """Embed every cell of the store unless it is done, and fit the probe to the study's cells."""
    started = time.perf_counter()
    device = device_of(plain["trainer"])
    features = _Features(plain, study, fingerprint)

    def part(cells: np.ndarray, views: Sequence[int | None]) -> tuple[Tensor, Tensor]:
        found = torch.from_numpy(np.concatenate([features(CLEAN, cells, view) for view in views])).float()
        return found.to(device), torch.from_numpy(np.tile(study.labels[cells], len(views))).to(device)

    train, validation = part(study.split.train, [None, *range(probe.views)]), part(study.split.validation, [None])
    embedded = time.perf_counter()
    head, facts = probe.fit(train, validation, len(study.classes))
    if logger is not None:
        logger.log_metrics({"val_macro_f1": facts["val_macro_f1"]})
    return Fitted(
        features.predictor(head),
        {f"head.{name}": tensor for name, tensor in head.state_dict().items()},
        {"best_epoch": None, "epochs": None, "val_macro_f1": facts["val_macro_f1"], "probe": facts},
        {"embed": embedded - started, "train": time.perf_counter() - embedded},
    )


class _Features:
    """Kept features of a study: of every cell as it is, of the cells asked for alone under blur."""

    def __init__(self, plain: dict[str, Any], study: Study, fingerprint: str | None) -> None:
        loading: Loading = build(plain["data"]["loading"])
        self.plain = plain
        self.study = study
        self.fingerprint = fingerprint
        self.device = device_of(plain["trainer"])
        n = loading.embedding_batch or cells_at_a_time(plain["model"]["backbone"]["input_px"], self.device)
        self.cache = Cache(
            Path(loading.embeddings_dir), loading.embeddings_gib, n, self.device, loading.embedding_dtype
        )

    @cached_property
    def backbone(self) -> Backbone:
        """Opened when features are lacking, once for all conditions."""
        return open_backbone(self.plain["model"], self.fingerprint)

    def __call__(self, condition: Condition, cells: np.ndarray, view: int | None = None) -> np.ndarray:
        model, store = self.plain["model"], self.study.store

        def network() -> Network:
            network = Network(self.backbone, optics_of(self.plain, store.geometry, condition), nn.Identity())
            return network.to(memory_format=torch.channels_last)

        content = {"weights": self.fingerprint, "backbone": model["backbone"], "condition": asdict(condition)}
        content |= {key: self.plain["optics"][key] for key in ("via_px", "resize")}
        asked = np.arange(len(store)) if condition == CLEAN else cells
        augmented = None if view is None else (build(self.plain["augment"]), view)
        name = f"{model['name']}-{self.plain['data']['name']}"
        found = self.cache.features(network, store, name, content, asked, view=augmented)
        return found[cells] if condition == CLEAN else np.asarray(found)

    def predictor(self, head: nn.Module) -> Predict:
        @torch.no_grad()
        def predict(conditions: Sequence[Condition], cells: np.ndarray) -> dict[Condition, np.ndarray]:
            head.to(self.device).eval()
            found = {}
            for condition in conditions:
                parts = torch.from_numpy(np.array(self(condition, cells))).float().to(self.device).split(4096)
                found[condition] = torch.cat([head(part).softmax(dim=1) for part in parts]).cpu().numpy()
            return found

        return predict


def restore_predictor(run: Path, plain: dict[str, Any], study: Study) -> Predict:
    """Predict cells with a stored run, for conditions that it was not evaluated under yet."""
    file = plain["model"].get("weights", {}).get("file")
    network = restore(run, Path(file) if file else None)
    if isinstance(build(without(plain["adapt"], "name")), Probe):
        return _Features(plain, study, read_record(run)["weights"]).predictor(network.head)
    return _predictor(plain, study, network)
