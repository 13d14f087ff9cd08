"""One run from its experiment to its record."""

import logging
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from filelock import Timeout
from pydantic import JsonValue

from cellpatch.data.dataset import CellDataset, open_dataset, open_store
from cellpatch.data.store.reader import CellStore
from cellpatch.metrics.calibration import fit_temperature
from cellpatch.models.predictor import FitResult
from cellpatch.optics.conditions import CLEAN, Condition
from cellpatch.optics.operator import OpticalPath, reaches_beyond_margin
from cellpatch.pretraining.facts import PretrainingFacts
from cellpatch.pretraining.methods import Pretraining
from cellpatch.probing.probes import Probe
from cellpatch.runs.condition_scores import ConditionScores, metrics_row
from cellpatch.runs.console import print_best_validation, print_conditions, print_few_specimens, print_table
from cellpatch.runs.dry_run import plan_run
from cellpatch.runs.experiment import Experiment
from cellpatch.runs.experiment_code import current_code
from cellpatch.runs.finished import as_stored, complete
from cellpatch.runs.fits import gradient_fit, probe_fit
from cellpatch.runs.identity import identities, run_name
from cellpatch.runs.locks import ConcurrentFailureError, RunFiles, claim_run, run_lock
from cellpatch.runs.outcome import Outcome
from cellpatch.runs.pretrained import pretrain, pretraining_fingerprint
from cellpatch.runs.preview import print_preview
from cellpatch.runs.provenance import git_state, hardware, versions
from cellpatch.runs.scoring import score
from cellpatch.runs.size import network_size
from cellpatch.runs.stored_run import (
    PREDICTIONS,
    VALIDATION,
    StoredRun,
    write_predictions,
    write_record,
)
from cellpatch.runs.tracking.about import About
from cellpatch.runs.tracking.tracker import Tracking
from cellpatch.runs.unfinished import find_unfinished, report_unfinished
from cellpatch.runs.weights import write_weights
from cellpatch.runtime.memory import collect_garbage, tune_malloc
from cellpatch.runtime.version import __version__

log = logging.getLogger(__name__)


def run_experiment(experiment: Experiment, wait: bool = True, grid: str | None = None) -> Outcome:
    """Train a run unless it exists, store it under runs_dir, and report what was done.

    While another process trains it, waits or skips it; a dry run reports what would be done. `grid` is a name that the
    runs of one grid share: in a grid, a run that failed before is skipped, unless `retry_failed`. Raises ValueError on
    bad configuration, weights or data, before any training.
    """
    tune_malloc()
    git_state()  # of the code that is loaded, whatever is committed while it runs
    if experiment.dry_run:
        return plan_run(experiment)
    weights = experiment.model.weights_fingerprint()
    experiment.trainer.require_device()
    store = open_store(experiment.data)
    path = experiment.path(store.geometry)
    conditions = experiment.optics.evaluated(store.geometry.field_um)
    for condition in conditions + experiment.optics.trained(store.geometry.field_um):
        path.under(condition)  # a blur that does not fit is an error before any training
    _warn_about_borders(path, conditions)
    pretraining = pretraining_fingerprint(experiment)
    names = identities(experiment.settings, store.manifest.fingerprint, weights, pretraining)
    files = RunFiles(experiment.runs_dir, run_name(experiment.settings), names)
    finished = files.find()
    if finished and (outcome := as_stored(StoredRun.open(finished), experiment, conditions)):  # needs no lock
        with suppress(PermissionError):  # another user's
            files.remove_traces()
        return outcome
    known_failure = files.failed_at()
    if grid and known_failure and not experiment.retry_failed and not files.find():
        return _skipped(files.run)
    unfinished = find_unfinished(files)
    try:
        with Tracking(experiment.trackers) as tracking:
            with claim_run(files, wait, known_failure) as (folder, exists):
                if exists:
                    return complete(StoredRun.open(folder), experiment, store, conditions)
                log.info("%s", files.run)
                if unfinished is not None:
                    report_unfinished(unfinished, experiment.trainer.resume)
                job = _Job(experiment, store, weights, conditions, files)
                dataset = _train(job, folder, tracking)
            run = _show(job, dataset, tracking)  # it is on disk: nothing that fails now loses it
    except Timeout:
        log.info("%s: another process trains it", files.run)
        return Outcome(files.run, "locked")
    except ConcurrentFailureError:
        if not grid:
            message = f"{files.run} failed in another process meanwhile: give the command again to retry it"
            raise ValueError(message) from None
        return _skipped(files.run)
    collect_garbage()
    return Outcome(files.run, "trained", run.record.warnings)


def _skipped(run: str) -> Outcome:
    log.warning("%s failed before: skipped; retry_failed=true retries it", run)
    return Outcome(run, "skipped (failed before)")


def _warn_about_borders(path: OpticalPath, conditions: list[Condition]) -> None:
    wide = [str(each) for each in conditions if reaches_beyond_margin(each, path)]
    if wide:
        message = "the margin of %d px is less than the reach of %s: missing pixels are filled by reflection"
        log.warning(message, path.margin_px, ", ".join(wide))


@dataclass(frozen=True)
class _Job:
    """A run that is trained now."""

    experiment: Experiment
    store: CellStore
    weights: str | None
    conditions: list[Condition]
    files: RunFiles


def _train(job: _Job, folder: Path, tracking: Tracking) -> CellDataset:
    """Fit, evaluate, and write everything of the run into its folder, the record last; gives the run's cells."""
    started = time.perf_counter()
    experiment = job.experiment
    dataset = open_dataset(job.store, experiment.data.split, experiment.flag_limit, experiment.seed)
    costs = experiment.data.costs
    costs.codes(dataset.classes)  # a class that does not exist is an error before any training
    print_preview(experiment, dataset, experiment.runs_dir / job.files.run)
    runs_dir, run = experiment.runs_dir, job.files.run
    tracking.start(
        About(run, job.files.identities[0], experiment.settings, runs_dir / ".tracking" / run, runs_dir, anew=True)
    )
    fit, pretraining = _fit(job, dataset, folder, tracking)
    trained = time.perf_counter()
    validation = dataset.split.validation
    unscaled = fit.predict([CLEAN], validation)[CLEAN]
    if not np.isfinite(unscaled).all():
        raise ValueError("training diverged, its probabilities are not finite: lower adapt.lr")
    temperature = fit_temperature(dataset.labels[validation], unscaled)
    predicted = fit.predict(job.conditions, dataset.split.test)
    metrics = score(dataset, experiment.path(job.store.geometry), predicted, temperature, costs)
    evaluate_seconds = time.perf_counter() - trained
    for file, part, probabilities in (
        (PREDICTIONS, dataset.split.test, predicted),
        (VALIDATION, validation, {CLEAN: unscaled}),
    ):
        cells = job.store.rows(part)
        write_predictions(folder / file, cells, dataset.labels[part], probabilities, dataset.classes)
    write_weights(folder, fit.state)
    seconds = {"train": fit.train_seconds, "evaluate": evaluate_seconds, "all": time.perf_counter() - started}
    if fit.embed_seconds is not None:
        seconds = {"embed": fit.embed_seconds, **seconds}
    facts = _facts(job, dataset, fit, temperature, metrics)
    if pretraining is not None:
        facts["pretraining"] = asdict(pretraining)
    write_record(folder, facts | {"seconds": seconds})
    return dataset


def _show(job: _Job, dataset: CellDataset, tracking: Tracking) -> StoredRun:
    """Print a finished run, and send it to its trackers."""
    name, audit = job.files.name, dataset.split.audit
    runs_dir = job.experiment.runs_dir
    with run_lock(runs_dir, job.files.identities[0]):
        run = tracking.finish(StoredRun.open(runs_dir / job.files.run), dataset)
    record = run.record
    print_table(name, record.clean, audit.cells["train"])
    print_conditions(name, record.metrics[1:])
    print_few_specimens(name, record.clean, audit.specimens["test"])
    print_best_validation(name, record.best_validation)
    return run


def _fit(
    job: _Job, dataset: CellDataset, folder: Path, tracking: Tracking
) -> tuple[FitResult, PretrainingFacts | None]:
    """Fit to the training cells, after a pretraining if the experiment asks for one."""
    experiment = job.experiment
    if isinstance(experiment.adaptation, Probe):
        return probe_fit(experiment, job.weights, dataset).run(), None
    checkpoint = job.files.checkpoint if experiment.trainer.resume else None
    state, pretraining = None, None
    if isinstance(experiment.adaptation, Pretraining):
        state, pretraining = pretrain(experiment, dataset)
    return gradient_fit(experiment, job.weights, dataset, state).run(
        folder, tracking.log_round, checkpoint
    ), pretraining


def _facts(
    job: _Job, dataset: CellDataset, fit: FitResult, temperature: float, metrics: list[ConditionScores]
) -> dict[str, JsonValue]:
    """What the record states, but seconds and the checksums of files."""
    manifest, git = job.store.manifest, git_state()
    null_for_a_probe = {name: getattr(fit.facts, name) for name in ("best_epoch", "epochs", "best_update", "updates")}
    return {
        "run": job.files.run,
        "identity": job.files.identities[0],
        "cellpatch": __version__,
        "training_code": asdict(current_code(job.experiment)),
        "config": job.experiment.settings.config,
        "classes": list(dataset.classes),
        "data": {
            "fingerprint": manifest.fingerprint,
            "source": manifest.source,
            "geometry": asdict(manifest.geometry),
            "intake": manifest.intake.as_json(),
        },
        "weights": job.weights,
        "counts": dataset.split.audit.cells,
        "audit": dataset.split.audit.as_json(),
        **{key: value for key, value in asdict(fit.facts).items() if value is not None},
        **null_for_a_probe,
        "best_validation": fit.facts.best_validation,
        "temperature": temperature,
        "metrics": [metrics_row(row) for row in metrics],
        "size": asdict(network_size(job.experiment.model, fit.state)),
        "logged": [],
        "hardware": asdict(hardware()),
        "versions": versions(),
        "git": None if git is None else asdict(git),
    }
