"""One run from its config to its record."""

import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from filelock import Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from jaxtyping import Float
from omegaconf import DictConfig

from cellpatch import __version__
from cellpatch.config.instantiate import build, without
from cellpatch.config.validate import check
from cellpatch.data.dataset import CellDataset, open_dataset, open_store
from cellpatch.data.store.reader import CellStore
from cellpatch.inference.restore import restore
from cellpatch.metrics import classification
from cellpatch.models.network import build_optics, weights_fingerprint
from cellpatch.models.predictor import Predict, make_predict_fn
from cellpatch.optics.conditions import CLEAN, Condition, OpticsSettings
from cellpatch.optics.operator import reaches_beyond_margin
from cellpatch.probing.fit import Features, fit_probe
from cellpatch.probing.probes import Probe
from cellpatch.runs import identity, locks, record
from cellpatch.runs.console import print_conditions, print_table
from cellpatch.runs.dry_run import plan_run
from cellpatch.runs.outcome import Outcome, State
from cellpatch.runs.preflight import check_device, check_pair, check_trainer
from cellpatch.runs.record import write_weights
from cellpatch.runs.wandb_log import log_conditions, log_review, logger_of
from cellpatch.runtime.device import collect_garbage, tune_malloc
from cellpatch.training.adaptation import FineTuning

log = logging.getLogger(__name__)


def train(config: DictConfig, wait: bool = True) -> Outcome:
    """Train the run that `config` describes unless it exists, store it under runs_dir, and tell what was done.

    While another process is at it, waits or leaves it; a dry run tells what would be done. In a grid, a run that failed
    before is left too, unless `retry_failed`. Raises ValueError on bad configuration, weights or data, before any
    training.
    """
    plain = check(config)
    tune_malloc()
    record.git_state()  # the code that is loaded, whatever is committed while it runs
    conditions: OpticsSettings = build(plain["optics"])
    adaptation: FineTuning | Probe = build(without(plain["adapt"], "name"))
    check_pair(plain, adaptation)
    check_trainer(plain["trainer"])
    weights = weights_fingerprint(plain["model"])
    if plain["dry_run"]:
        return plan_run(plain, weights, conditions)
    check_device(plain["trainer"])
    store = open_store(plain["data"])
    field_um = store.geometry.field_um
    for condition in conditions.each(field_um) + conditions.drawn(field_um):
        build_optics(plain, store.geometry, condition)  # a blur that does not fit is an error before any training
    _warn_of_borders(store, conditions.each(field_um))
    run_id = identity.identity(plain, store.manifest.fingerprint, weights)
    name = identity.run_name(plain)
    run, runs_dir = f"{name}-{run_id}", Path(plain["runs_dir"])
    known = locks.failed_at(runs_dir, run)
    if _grid() and known and not plain["retry_failed"] and not locks.find_run(runs_dir, run_id):
        return _left(run)
    try:
        with locks.claim_run(runs_dir, name, run_id, wait, known) as (folder, exists):
            if exists:
                return Outcome(run, _evaluate(folder, plain, store, conditions.each(field_um)))
            log.info("%s", run)
            study = open_dataset(plain, store)
            progress = locks.checkpoint_path(runs_dir, run) if plain["trainer"]["resume"] else None
            facts = _run(plain, study, adaptation, conditions.each(field_um), weights, folder, name, progress)
            record.write_record(folder, {"run": run, "identity": run_id, "cellpatch": __version__} | facts)
    except Timeout:
        log.info("%s: another process is at it", run)
        return Outcome(run, "elsewhere")
    except locks.ConcurrentFailureError:
        if not _grid():
            raise ValueError(f"{run} failed in another process meanwhile: give the command again to try it") from None
        return _left(run)
    collect_garbage()
    return Outcome(run, "trained")


def _left(run: str) -> Outcome:
    log.warning("%s failed before: left; retry_failed=true tries it again", run)
    return Outcome(run, "failed before")


def _warn_of_borders(store: CellStore, conditions: list[Condition]) -> None:
    crop_px, margin_px = store.geometry.crop_px, store.geometry.margin_px
    wide = [f"{each.kind} {each.sigma:g}" for each in conditions if reaches_beyond_margin(each, crop_px, margin_px)]
    if wide:
        told = "the margin of %d px is less than the blur of %s reaches: mirrored borders stand for the rest"
        log.warning(told, margin_px, ", ".join(wide))


def _evaluate(run: Path, plain: dict[str, Any], store: CellStore, conditions: list[Condition]) -> State:
    """Evaluate a run that exists under the conditions that it lacks, and by costs that are new."""
    record.check_files(run)
    before = record.read_record(run)
    costs = plain["data"]["costs"]
    if not costs["classes"]:
        costs = before["config"]["data"]["costs"]
    elif costs != before["config"]["data"]["costs"]:
        before["config"]["data"]["costs"] = costs
        record.update_record(run, config=before["config"], metrics=_weighed(run, build(costs)))
    there = {Condition(row["kind"], row["sigma"]) for row in before["metrics"]}
    lacking = [condition for condition in conditions if condition not in there]
    if not lacking:
        log.info("%s exists: not trained again", run.name)
        return "exists"
    log.info("%s exists: evaluated under %d more conditions, not trained again", run.name, len(lacking))
    started = time.perf_counter()
    study = open_dataset(plain, store)
    predicted = _restore_predictor(run, plain, study)(lacking, study.split.test)
    metrics = _measure(study, predicted, before["temperature"], build(costs))

    def write(file: Path) -> None:
        cells = store.cells.iloc[study.split.test]
        record.write_predictions(file, cells, study.test_labels, predicted, study.classes)

    record.add_evaluation(run, write, metrics, time.perf_counter() - started)
    print_conditions(run.name, metrics)
    log_conditions(run, plain, record.read_record(run)["metrics"])
    return "evaluated"


def _restore_predictor(run: Path, plain: dict[str, Any], study: CellDataset) -> Predict:
    """Predict cells with a stored run, for conditions that it was not evaluated under yet."""
    file = plain["model"].get("weights", {}).get("file")
    network = restore(run, Path(file) if file else None)
    if isinstance(build(without(plain["adapt"], "name")), Probe):
        return Features(plain, study, record.read_record(run)["weights"]).predictor(network.head)
    return make_predict_fn(plain, study, network)


def _weighed(run: Path, costs: classification.Costs) -> list[dict[str, Any]]:
    """The metrics of every stored condition with its cost, of its predictions."""
    facts = record.read_record(run)
    stored = record.predictions_by_condition(run)
    for row in facts["metrics"]:
        _, labels, probabilities = stored[Condition(row["kind"], row["sigma"])]
        row["cost_weighted_error"] = costs.error(labels, probabilities, facts["classes"])
    return facts["metrics"]


def _measure(
    study: CellDataset,
    predicted: dict[Condition, Float[np.ndarray, "n classes"]],
    temperature: float,
    costs: classification.Costs,
) -> list[dict[str, Any]]:
    return [
        asdict(condition)
        | classification.score_predictions(study.test_labels, probabilities, study.classes, temperature, costs)
        for condition, probabilities in predicted.items()
    ]


def _run(
    plain: dict[str, Any],
    study: CellDataset,
    adaptation: FineTuning | Probe,
    conditions: list[Condition],
    weights: str | None,
    folder: Path,
    name: str,
    progress: Path | None,
) -> dict[str, Any]:
    started = time.perf_counter()
    audit = study.split.audit
    costs: classification.Costs = build(plain["data"]["costs"])
    costs.codes(study.classes)  # a class that is not there is an error before any training
    with logger_of(plain["logger"], plain, folder, name, _grid()) as logger:
        if isinstance(adaptation, FineTuning):
            from cellpatch.training.fit import fit_by_gradients  # Lightning takes seconds to import, probes do without

            fitted = fit_by_gradients(plain, study, adaptation, weights, folder, logger, progress)
        else:
            fitted = fit_probe(plain, study, adaptation, weights, logger)
        trained = time.perf_counter()
        validation = study.split.validation
        unscaled = fitted.predict([CLEAN], validation)[CLEAN]
        if not np.isfinite(unscaled).all():
            raise ValueError(f"{name}: training diverged, its probabilities are not finite: lower adapt.lr")
        temperature = classification.fit_temperature(study.labels[validation], unscaled)
        predicted = fitted.predict(conditions, study.split.test)
        metrics = _measure(study, predicted, temperature, costs)
        seconds = fitted.seconds | {"evaluate": time.perf_counter() - trained}
        log_review(logger, metrics, study, predicted[CLEAN])
    print_table(name, metrics[0], audit)
    print_conditions(name, metrics[1:])
    for file, part, found in (
        (record.PREDICTIONS, study.split.test, predicted),
        (record.VALIDATION, validation, {CLEAN: unscaled}),
    ):
        cells = study.store.cells.iloc[part]
        record.write_predictions(folder / file, cells, study.labels[part], found, study.classes)
    write_weights(folder / "weights.safetensors", fitted.state)
    manifest = study.store.manifest
    return {
        "config": plain,
        "classes": study.classes,
        "data": {
            "fingerprint": manifest.fingerprint,
            "source": manifest.source,
            "geometry": asdict(manifest.geometry),
        },
        "weights": weights,
        "counts": audit["cells"],
        "audit": audit,
        **fitted.facts,
        "temperature": temperature,
        "metrics": metrics,
        "seconds": seconds | {"all": time.perf_counter() - started},
    }


def _grid() -> str | None:
    """A name that the runs of one multirun share."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return None
    return Path(HydraConfig.get().sweep.dir).name
