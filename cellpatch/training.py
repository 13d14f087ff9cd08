"""One run from its config to its record."""

import logging
import shutil
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from jaxtyping import Float, Int
from omegaconf import DictConfig

from cellpatch import __version__, evaluate, record, review, runs
from cellpatch.augment import AlbumentationsAugment
from cellpatch.classifier import Adaptation, Classifier
from cellpatch.config import build, check, without
from cellpatch.data.datamodule import CellData, class_weights
from cellpatch.data.source import prepare
from cellpatch.data.splits import BySpecimen, Split
from cellpatch.data.store import CellStore
from cellpatch.models.backbone import Backbone
from cellpatch.optics import Condition, Optics

log = logging.getLogger(__name__)
_CHECKPOINTS = "checkpoints"
# Batches come whole from memory, so Lightning's advice to start worker processes is wrong here; its notices at
# each start tell a user nothing, and what it warns itself of (pytree) a user cannot mend.
warnings.filterwarnings("ignore", message=".*does not have many workers.*")
warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)


@dataclass(frozen=True)
class Study:
    """The classes of a study, each cell's index among them (-1 where dropped), and the split."""

    classes: list[str]
    labels: Int[np.ndarray, " n"]
    split: Split


def train(config: DictConfig) -> None:
    """Train the run that `config` describes unless it exists, and store it under runs_dir.

    Raises ValueError on bad configuration or data, before any training.
    """
    plain = check(config)
    condition: Condition = build(plain["optics"])
    if plain["trainer"]["devices"] not in (1, "1") or plain["trainer"]["max_epochs"] < 1:
        raise ValueError(
            f"trainer.devices must be 1 (this version trains on one device) and trainer.max_epochs >= 1, but got "
            f"{plain['trainer']['devices']} and {plain['trainer']['max_epochs']}"
        )
    store = open_store(plain["data"])
    run_id = runs.identity(plain, store.manifest.fingerprint)
    name = runs.readable(plain)
    with runs.claim(Path(plain["runs_dir"]), name, run_id) as folder:
        if folder is None:
            log.info("%s-%s exists: not trained again", name, run_id)
            return
        log.info("%s-%s", name, run_id)
        facts = _run(plain, store, condition, folder, name)
        record.write_record(folder, {"run": f"{name}-{run_id}", "identity": run_id, "cellpatch": __version__} | facts)


def open_store(data: dict[str, Any]) -> CellStore:
    """The store of a data config, prepared if it is absent; opened once in a process."""
    source = build(without(data, "name", "split", "loading"))
    root = prepare(source, data["name"], Path(data["loading"]["store_dir"]))
    if root not in _opened:
        _opened.clear()  # one store at a time: a grid over data sets does not pile them up
        _opened[root] = CellStore(root)
    return _opened[root]


_opened: dict[Path, CellStore] = {}


def split_store(plain: dict[str, Any], store: CellStore) -> Study:
    """Split the store's cells as the config says."""
    by_specimen: BySpecimen = build(plain["data"]["split"])
    classes = by_specimen.keep(store.manifest.classes)
    code = {name: i for i, name in enumerate(classes)}
    labels = np.array([code.get(name, -1) for name in store.cells["class"].astype(str)])
    given = store.cells["split"]
    split = by_specimen.split(
        labels,
        store.cells["specimen"].astype(str).to_numpy(),
        store.cells["digest"].to_numpy(dtype="S16"),
        classes,
        plain["flag_limit"],
        None if given.isna().all() else given.to_numpy(),
    )
    return Study(classes, labels, split)


def _run(plain: dict[str, Any], store: CellStore, condition: Condition, folder: Path, name: str) -> dict[str, Any]:
    started = time.perf_counter()
    pl.seed_everything(plain["seed"], workers=True, verbose=False)
    study = split_store(plain, store)
    data, model = _assemble(plain, store, study)
    with review.logger_of(plain["logger"], plain, folder, name, _grid()) as logger:
        trainer, checkpoints = _trainer(plain["trainer"], model.adaptation, logger, folder)
        trainer.fit(model, data)
        trained = time.perf_counter()
        best = torch.load(checkpoints.best_model_path, weights_only=True)
        model.load_state_dict(best["state_dict"])
        probabilities = _predict(trainer, model, data)
        test = study.split.test
        metrics = evaluate.measure(study.labels[test], probabilities, study.classes)
        review.log_review(logger, metrics, store, test, study.labels[test], probabilities, study.classes)
    review.print_table(name, metrics, study.split.audit)
    shutil.rmtree(folder / _CHECKPOINTS)
    record.write_predictions(
        folder / "predictions.parquet",
        store.cells.iloc[test],
        study.labels[test],
        probabilities,
        study.classes,
        condition.kind,
        condition.sigma,
    )
    record.write_weights(folder / "weights.safetensors", model)
    return {
        "config": plain,
        "classes": study.classes,
        "data": {"fingerprint": store.manifest.fingerprint, "source": store.manifest.source},
        "counts": study.split.audit["cells"],
        "audit": study.split.audit,
        "best_epoch": best["epoch"],
        "epochs": trainer.current_epoch,
        "val_macro_f1": float(checkpoints.best_model_score or 0),
        "metrics": [{"kind": condition.kind, "sigma": condition.sigma} | metrics],
        "seconds": {"train": trained - started, "evaluate": time.perf_counter() - trained},
    }


def _assemble(plain: dict[str, Any], store: CellStore, study: Study) -> tuple[CellData, Classifier]:
    """Batches and model of a run."""
    adaptation: Adaptation = build(without(plain["adapt"], "name"))
    augment = build(plain["augment"]) or None
    on_cpu = isinstance(augment, AlbumentationsAugment)
    data = CellData(
        store,
        study.split,
        study.labels,
        adaptation.batch_size,
        plain["seed"],
        build(plain["data"]["loading"]),
        augment if on_cpu else None,
    )
    backbone: Backbone = build(plain["model"]["backbone"])
    optics = Optics(store.geometry.crop_px, store.geometry.margin_px, backbone.input_px)
    n_classes = len(study.classes)
    balanced = adaptation.class_weights == "balanced"
    weights = class_weights(study.labels[study.split.train], n_classes) if balanced else None
    return data, Classifier(backbone, optics, None if on_cpu else augment, n_classes, adaptation, weights)


def _trainer(
    settings: dict[str, Any], adaptation: Adaptation, logger: Any, folder: Path
) -> tuple[pl.Trainer, pl.callbacks.ModelCheckpoint]:
    best = pl.callbacks.ModelCheckpoint(
        folder / _CHECKPOINTS, monitor="val_macro_f1", mode="max", save_weights_only=True
    )
    callbacks = [
        best,
        pl.callbacks.EarlyStopping("val_macro_f1", mode="max", patience=adaptation.patience),
        review.EpochLine(),
    ]
    on_gpu = settings["accelerator"] in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    bf16 = on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    settings = settings | {
        "precision": settings["precision"] or ("bf16-mixed" if bf16 else "32-true"),
        "enable_progress_bar": settings["enable_progress_bar"] and sys.stderr.isatty(),
    }
    trainer = build(
        settings,
        callbacks=callbacks,
        logger=logger or False,
        default_root_dir=str(folder),
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )
    return trainer, best


def _predict(trainer: pl.Trainer, model: Classifier, data: CellData) -> Float[np.ndarray, "n classes"]:
    batches = trainer.predict(model, data)
    assert batches is not None
    places = torch.cat([place for place, _ in batches])
    return torch.cat([probabilities for _, probabilities in batches])[places.argsort()].numpy()


def _grid() -> str | None:
    """A name that the runs of one multirun share."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return None
    return Path(HydraConfig.get().sweep.dir).name
