"""What a run would take, before it is trained: cellpatch train -m ... dry_run=true."""

import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import median

from cellpatch.data.dataset import find_prepared, open_dataset
from cellpatch.data.store.reader import CellStore
from cellpatch.runs.experiment import Experiment
from cellpatch.runs.folders import RECORD, finished_runs
from cellpatch.runs.identity import identities, run_name
from cellpatch.runs.locks import RunFiles
from cellpatch.runs.outcome import Outcome
from cellpatch.runs.pretrained import pretraining_fingerprint
from cellpatch.runs.settings import Settings
from cellpatch.runs.stored_run import StoredRun
from cellpatch.training.adaptation import FineTuning
from cellpatch.training.budget import plan_budget

log = logging.getLogger(__name__)


def plan_run(experiment: Experiment) -> Outcome:
    """What training would do, and by earlier runs how long and how large that would be.

    Trains and prepares nothing: cells that are not prepared yet stay so, and their runs count as new.
    """
    settings, weights = experiment.settings, experiment.model.weights_fingerprint()
    pretraining = pretraining_fingerprint(experiment)
    store = find_prepared(experiment.data)
    if store is None:
        return Outcome(run_name(settings), "to train", ["its cells are not prepared yet"], *_estimate(experiment, None))
    names = identities(settings, store.manifest.fingerprint, weights, pretraining)
    files = RunFiles(experiment.runs_dir, run_name(settings), names)
    folder = files.find()
    if folder is None and files.failed_at() is not None and not experiment.retry_failed:
        return Outcome(files.run, "skipped (failed before)")
    if folder is None:
        return Outcome(files.run, "to train", [], *_estimate(experiment, store))
    evaluated = {row.condition for row in StoredRun.open(folder).record.metrics}
    asked = set(experiment.optics.evaluated(store.geometry.field_um))
    return Outcome(folder.name, "exists" if asked <= evaluated else "to evaluate")


@dataclass(frozen=True)
class _Cost:
    """What an earlier run took: `train` and all other seconds, and what a training of its size is."""

    kind: tuple[str, str, int]
    train: float
    beside: float
    epochs: float | None
    n_train: int
    mib: float


def _estimate(experiment: Experiment, store: CellStore | None) -> tuple[float | None, float | None]:
    """Seconds and MiB by the median of earlier runs of the same kind; None without one.

    A training grows with the cells that it sees, up to the planned number of updates. What comes before and after it
    (the split, evaluation, record) and a probe are taken to last as long as before.
    """
    settings = experiment.settings
    earlier = [cost for cost in _earlier(experiment.runs_dir) if cost.kind == _kind(settings)]
    if not earlier:
        return None, None
    size = median(cost.mib for cost in earlier)
    rates = [cost.train / (cost.n_train * cost.epochs) for cost in earlier if cost.epochs is not None]
    if store is None or len(rates) < len(earlier):
        return median(cost.train + cost.beside for cost in earlier), size
    dataset = open_dataset(store, experiment.data.split, settings.flag_limit, settings.seed)
    assert isinstance(experiment.adaptation, FineTuning)
    n_train = len(dataset.split.train)
    trained = median(rates) * n_train * plan_budget(experiment.adaptation, experiment.trainer, n_train).epochs
    return trained + median(cost.beside for cost in earlier), size


def _kind(settings: Settings) -> tuple[str, str, int]:
    return settings.model.name, settings.adapt.name, settings.model.backbone.input_px


def _earlier(runs_dir: Path) -> list[_Cost]:
    if not runs_dir.is_dir():
        return []
    costs = (_cost(folder, _written_ns(folder)) for folder in finished_runs(runs_dir))
    return [cost for cost in costs if cost is not None]


def _written_ns(folder: Path) -> int:
    try:
        return (folder / RECORD).stat().st_mtime_ns
    except OSError:  # missing or not readable, as `_cost` reports
        return 0


@lru_cache(maxsize=4096)  # every job of a grid asks
def _cost(folder: Path, written_ns: int) -> _Cost | None:
    """The cost of a run; None, with a warning, if its record is unreadable. `written_ns` is the record's time."""
    try:
        record = StoredRun.open(folder).record
    except ValueError as error:
        log.warning("left out of the estimate: %s", error)
        return None
    beside = record.seconds.evaluate + (record.seconds.embed or 0.0)
    if record.pretraining is not None and not record.pretraining.reused:
        beside += record.pretraining.cost.all_seconds
    size = sum(each.stat().st_size for each in folder.rglob("*") if each.is_file()) / 2**20
    return _Cost(_kind(record.settings), record.seconds.train, beside, record.epochs, record.n_train, size)
