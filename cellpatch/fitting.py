"""Fit one model to a study: by gradients with Lightning, or a probe on the features of a frozen backbone."""

import json
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from cellpatch import review
from cellpatch.adapt import Schedule
from cellpatch.augment import AlbumentationsAugment
from cellpatch.classifier import Classifier, Network
from cellpatch.config import build, without
from cellpatch.data.datamodule import CellData, Loading, class_weights
from cellpatch.data.store import Geometry
from cellpatch.embeddings import Cache
from cellpatch.models.backbone import Backbone, trained_state
from cellpatch.models.weights import Weights
from cellpatch.models.weights import fingerprint as fingerprint_of
from cellpatch.optics import Condition, Optics
from cellpatch.probe import Probe
from cellpatch.runs import read_record
from cellpatch.study import Study

_CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class Fitted:
    """What a fit leaves: test probabilities, the trained tensors, facts for the record, seconds by what they took."""

    probabilities: Float[np.ndarray, "n classes"]
    state: dict[str, Tensor]
    facts: dict[str, Any]
    seconds: dict[str, float]


def open_backbone(model: dict[str, Any], fingerprint: str | None) -> Backbone:
    """Build the backbone of a model config, with its published weights if it names any.

    Raises ValueError if those are not the weights of `fingerprint`: a file may be replaced while a run waits.
    """
    backbone: Backbone = build(model["backbone"])
    loaded = build(model["weights"]).load(backbone) if "weights" in model else None
    if loaded != fingerprint:
        raise ValueError(f"the published weights of {model['name']} are now {loaded}, not {fingerprint} as before")
    return backbone


def weights_fingerprint(model: dict[str, Any]) -> str | None:
    """Fingerprint of a model's published weights, None if it has none; read once in a process to know it.

    No network is built for it in memory. Raises ValueError if they are absent or do not fit.
    """
    if "weights" not in model:
        return None
    weights: Weights = build(model["weights"])
    stat = weights.locate().stat()
    key = json.dumps([model["backbone"], model["weights"], stat.st_size, stat.st_mtime_ns], sort_keys=True)
    if key not in _fingerprints:
        with torch.device("meta"):
            backbone = build(model["backbone"])
        _fingerprints[key] = fingerprint_of(weights.read(backbone))
    return _fingerprints[key]


_fingerprints: dict[str, str] = {}


def fit_by_gradients(
    plain: dict[str, Any],
    study: Study,
    schedule: Schedule,
    condition: Condition,
    fingerprint: str | None,
    folder: Path,
    logger: Any,
) -> Fitted:
    """Train until the validation macro-F1 stops rising and keep the best epoch; predict in 32 bits."""
    started = time.perf_counter()
    data, model = _assemble(plain, study, schedule, condition, fingerprint)
    best = pl.callbacks.ModelCheckpoint(
        folder / _CHECKPOINTS, monitor="val_macro_f1", mode="max", save_weights_only=True
    )
    stop = pl.callbacks.EarlyStopping("val_macro_f1", mode="max", patience=schedule.patience)
    trainer = _trainer(plain["trainer"], folder, [best, stop, review.EpochLine()], logger)
    trainer.fit(model, data)
    trained = time.perf_counter()
    checkpoint = torch.load(best.best_model_path, weights_only=True)
    model.load_trained(checkpoint["state_dict"])
    batches = _trainer(plain["trainer"] | {"precision": "32-true"}, folder, [], None).predict(model, data)
    assert batches is not None
    places = torch.cat([place for place, _ in batches])
    shutil.rmtree(folder / _CHECKPOINTS)
    return Fitted(
        torch.cat([probabilities for _, probabilities in batches])[places.argsort()].numpy(),
        trained_state(model.network),
        {
            "best_epoch": checkpoint["epoch"],
            "epochs": trainer.current_epoch,
            "val_macro_f1": float(best.best_model_score or 0),
        },
        {"train": trained - started, "evaluate": time.perf_counter() - trained},
    )


def _assemble(
    plain: dict[str, Any], study: Study, schedule: Schedule, condition: Condition, fingerprint: str | None
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
    network, rates = _network(plain, schedule, condition, fingerprint, study.store.geometry, n_classes)
    balanced = schedule.class_weights == "balanced"
    weights = class_weights(study.labels[study.split.train], n_classes) if balanced else None
    return data, Classifier(network, n_classes, schedule, rates, None if on_cpu else augment, weights)


def _network(
    plain: dict[str, Any],
    schedule: Schedule,
    condition: Condition,
    fingerprint: str | None,
    geometry: Geometry,
    n_classes: int,
) -> tuple[Network, dict[str, float]]:
    """A network before training, and the trained backbone parameters' shares of the learning rate."""
    backbone = open_backbone(plain["model"], fingerprint)
    rates = schedule.prepare(backbone)
    head = nn.Linear(backbone.num_features, n_classes)
    network = Network(backbone, _optics(condition, geometry, backbone.input_px), head)
    # Two CPU cores, batches of 64, this project's eight networks: up to 1.9 times as many cells/s as channels first.
    return network.to(memory_format=torch.channels_last), rates


def restore(run: Path, geometry: Geometry, weights_file: Path | None = None) -> Network:
    """The network of a stored run, as it was evaluated, for crops of the given geometry.

    `weights_file` is where the published weights are now, if elsewhere than then. Raises ValueError if they are
    absent or others than the run's.
    """
    record = read_record(run)
    plain, n_classes = record["config"], len(record["classes"])
    if weights_file is not None:
        plain["model"]["weights"]["file"] = str(weights_file)
    condition: Condition = build(plain["optics"])
    adaptation: Schedule | Probe = build(without(plain["adapt"], "name"))
    state = load_file(run / "weights.safetensors")
    if isinstance(adaptation, Schedule):
        network, _ = _network(plain, adaptation, condition, record["weights"], geometry, n_classes)
        left = network.load_state_dict(state, strict=False)
        expected = trained_state(network).keys()
        if left.unexpected_keys or state.keys() != expected:
            raise ValueError(f"{run}: weights.safetensors does not fit: {sorted(state.keys() ^ expected)[:5]}")
    else:
        backbone = open_backbone(plain["model"], record["weights"])
        head = adaptation.head({name.removeprefix("head."): t for name, t in state.items()}, record["probe"], n_classes)
        network = Network(backbone, _optics(condition, geometry, backbone.input_px), head)
    return network.eval()


def _optics(condition: Condition, geometry: Geometry, input_px: int) -> Optics:
    return Optics(geometry.crop_px, geometry.margin_px, input_px, condition.via_px)


def _trainer(settings: dict[str, Any], folder: Path, callbacks: list[pl.Callback], logger: Any) -> pl.Trainer:
    bf16 = device_of(settings).type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    settings = settings | {
        "precision": settings["precision"] or ("bf16-mixed" if bf16 else "32-true"),
        "enable_progress_bar": settings["enable_progress_bar"] and sys.stderr.isatty(),
    }
    return build(
        settings,
        callbacks=callbacks,
        logger=logger or False,
        default_root_dir=str(folder),
        enable_model_summary=False,
        enable_checkpointing=bool(callbacks),
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )


def device_of(trainer: dict[str, Any]) -> torch.device:
    """The device that Lightning's Trainer would take for the given settings, of those that cellpatch knows."""
    on_gpu = trainer["accelerator"] in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return torch.device("cuda" if on_gpu else "cpu")


def fit_probe(
    plain: dict[str, Any], study: Study, probe: Probe, condition: Condition, fingerprint: str | None, logger: Any
) -> Fitted:
    """Embed every cell of the store unless it is done, and fit the probe to the study's cells."""
    started = time.perf_counter()
    device = device_of(plain["trainer"])
    everywhere = _embed(plain, study, condition, fingerprint, device, views=probe.views)
    embedded = time.perf_counter()

    def part(name: str, copies: list[np.ndarray]) -> tuple[Tensor, Tensor]:
        cells = getattr(study.split, name)
        found = torch.from_numpy(np.concatenate([features[cells] for features in copies])).float()
        return found.to(device), torch.from_numpy(np.tile(study.labels[cells], len(copies))).to(device)

    head, facts = probe.fit(part("train", everywhere), part("validation", everywhere[:1]), len(study.classes))
    fitted = time.perf_counter()
    with torch.no_grad():
        test = part("test", everywhere[:1])[0]
        probabilities = torch.cat([head(rows).float().softmax(dim=1) for rows in test.split(4096)]).cpu().numpy()
    if logger is not None:
        logger.log_metrics({"val_macro_f1": facts["val_macro_f1"]})
    return Fitted(
        probabilities,
        {f"head.{name}": tensor for name, tensor in head.state_dict().items()},
        {"best_epoch": None, "epochs": None, "val_macro_f1": facts["val_macro_f1"], "probe": facts},
        {
            "embed": embedded - started,
            "train": fitted - embedded,
            "evaluate": time.perf_counter() - fitted,
        },
    )


def _embed(
    plain: dict[str, Any],
    study: Study,
    condition: Condition,
    fingerprint: str | None,
    device: torch.device,
    views: int,
) -> list[Float[np.ndarray, "n d"]]:
    """Features of all cells as they are, then of each augmented view."""
    model = plain["model"]
    loading: Loading = build(plain["data"]["loading"])
    content = {"weights": fingerprint, "backbone": model["backbone"], "optics": plain["optics"]}
    cache = Cache(Path(loading.embeddings_dir), loading.embeddings_gib, loading.embedding_batch, device)

    def network() -> Network:
        backbone = open_backbone(model, fingerprint)
        return Network(backbone, _optics(condition, study.store.geometry, backbone.input_px), nn.Identity())

    name = f"{model['name']}-{plain['data']['name']}"
    copies = [cache.features(network, study.store, name, content)]
    if views:
        augment = build(plain["augment"])
        copies += [cache.features(network, study.store, name, content, view=(augment, i)) for i in range(views)]
    return copies
