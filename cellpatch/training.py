"""One run from its config to its record."""

import logging
import time
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from cellpatch import __version__, evaluate, record, review, runs
from cellpatch.adapt import Schedule
from cellpatch.config import build, check, without
from cellpatch.fitting import fit_by_gradients, fit_probe, weights_fingerprint
from cellpatch.optics import Condition
from cellpatch.probe import Probe
from cellpatch.study import Study, open_store, open_study

log = logging.getLogger(__name__)
# Batches come whole from memory, so Lightning's advice to start worker processes is wrong here; its notices at
# each start tell a user nothing, and what it warns itself of (pytree) a user cannot mend.
warnings.filterwarnings("ignore", message=".*does not have many workers.*")
warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")  # frozen parts are, on purpose
logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)


def train(config: DictConfig) -> None:
    """Train the run that `config` describes unless it exists, and store it under runs_dir.

    Raises ValueError on bad configuration, weights or data, before any training.
    """
    plain = check(config)
    condition: Condition = build(plain["optics"])
    adaptation: Schedule | Probe = build(without(plain["adapt"], "name"))
    check_pair(plain, adaptation)
    if plain["trainer"]["devices"] not in (1, "1") or plain["trainer"]["max_epochs"] < 1:
        raise ValueError(
            f"trainer.devices must be 1 (this version trains on one device) and trainer.max_epochs >= 1, but got "
            f"{plain['trainer']['devices']} and {plain['trainer']['max_epochs']}"
        )
    weights = weights_fingerprint(plain["model"])
    store = open_store(plain["data"])
    run_id = runs.identity(plain, store.manifest.fingerprint, weights)
    name = runs.readable(plain)
    with runs.claim(Path(plain["runs_dir"]), name, run_id) as folder:
        if folder is None:
            log.info("%s-%s exists: not trained again", name, run_id)
            return
        log.info("%s-%s", name, run_id)
        pl.seed_everything(plain["seed"], workers=True, verbose=False)
        study = open_study(plain, store)
        facts = _run(plain, study, adaptation, condition, weights, folder, name)
        record.write_record(folder, {"run": f"{name}-{run_id}", "identity": run_id, "cellpatch": __version__} | facts)


def check_pair(plain: dict[str, Any], adaptation: Schedule | Probe) -> None:
    """Raise ValueError for a way of adapting that makes no sense for the model, or does not fit its layers."""
    model, adapt = plain["model"]["name"], plain["adapt"]["name"]
    pretrained = "weights" in plain["model"]
    if adaptation.pretrained and not pretrained:
        raise ValueError(f"adapt={adapt} needs a pretrained model, but model={model} has no weights: use adapt=scratch")
    if pretrained and not adaptation.pretrained:
        raise ValueError(
            f"adapt={adapt} starts from random values, but model={model} is pretrained: leave adapt out "
            "(linear_probe), or use another"
        )
    if isinstance(adaptation, Schedule):
        with torch.device("meta"):
            adaptation.prepare(build(plain["model"]["backbone"]))
    elif adaptation.views and not plain["augment"].get("_target_", "").endswith(".KorniaAugment"):
        raise ValueError(f"adapt.views={adaptation.views} needs augment=kornia")


def _run(
    plain: dict[str, Any],
    study: Study,
    adaptation: Schedule | Probe,
    condition: Condition,
    weights: str | None,
    folder: Path,
    name: str,
) -> dict[str, Any]:
    started = time.perf_counter()
    audit, test_labels = study.split.audit, study.test_labels
    with review.logger_of(plain["logger"], plain, folder, name, _grid()) as logger:
        if isinstance(adaptation, Schedule):
            fitted = fit_by_gradients(plain, study, adaptation, condition, weights, folder, logger)
        else:
            fitted = fit_probe(plain, study, adaptation, condition, weights, logger)
        metrics = evaluate.measure(test_labels, fitted.probabilities, study.classes)
        review.log_review(logger, metrics, study, fitted.probabilities)
    review.print_table(name, metrics, audit)
    record.write_predictions(
        folder / "predictions.parquet",
        study.store.cells.iloc[study.split.test],
        test_labels,
        fitted.probabilities,
        study.classes,
        condition.kind,
        condition.sigma,
    )
    record.write_weights(folder / "weights.safetensors", fitted.state)
    manifest = study.store.manifest
    return {
        "config": plain,
        "classes": study.classes,
        "data": {"fingerprint": manifest.fingerprint, "source": manifest.source},
        "weights": weights,
        "counts": audit["cells"],
        "audit": audit,
        **fitted.facts,
        "metrics": [{"kind": condition.kind, "sigma": condition.sigma} | metrics],
        "seconds": fitted.seconds | {"all": time.perf_counter() - started},
    }


def _grid() -> str | None:
    """A name that the runs of one multirun share."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return None
    return Path(HydraConfig.get().sweep.dir).name
