"""A run that is finished: what it still lacks of what a command asks, and adding it."""

import logging
import os
import time

from cellpatch.data.dataset import CellDataset, open_dataset
from cellpatch.data.store.reader import CellStore
from cellpatch.optics.conditions import Condition
from cellpatch.runs.console import print_conditions
from cellpatch.runs.experiment import Experiment
from cellpatch.runs.experiment_code import code_differences
from cellpatch.runs.outcome import Outcome, State
from cellpatch.runs.restore import restore_predict_fn
from cellpatch.runs.scoring import rescore, score
from cellpatch.runs.stored_run import Evaluated, StoredRun
from cellpatch.runs.tracking.settings import TrackerSettings, name_of
from cellpatch.runs.tracking.tracker import Tracking

log = logging.getLogger(__name__)


def as_stored(run: StoredRun, experiment: Experiment, conditions: list[Condition]) -> Outcome | None:
    """The outcome of a run to which nothing is to be added; None if there is something to write."""
    run.check_files()
    if _has_new_costs(run, experiment) or _missing(run, conditions) or _not_shown(run, experiment):
        return None
    return _outcome(run, experiment, "exists")


def complete(run: StoredRun, experiment: Experiment, store: CellStore, conditions: list[Condition]) -> Outcome:
    """Evaluate a run under the conditions that it lacks and by new costs, and show it where it is not shown.

    The run's lock must be held.
    """
    run.check_files()
    if _has_new_costs(run, experiment):
        run = run.with_costs(experiment.data.costs, rescore(run, experiment.data.costs))
    missing, not_shown = _missing(run, conditions), _not_shown(run, experiment)
    if missing or not_shown:
        dataset = open_dataset(store, experiment.data.split, experiment.flag_limit, experiment.seed)
        if missing:
            run = _evaluate(run, experiment, dataset, missing)
            _show(run, dataset, [each for each in experiment.trackers if each not in not_shown], anew=False)
        _show(run, dataset, not_shown, anew=True)
    return _outcome(run, experiment, "evaluated" if missing else "exists")


def _outcome(run: StoredRun, experiment: Experiment, state: State) -> Outcome:
    stored, asked = run.record.settings.data.name, experiment.data.name
    if stored != asked:
        message = "%s is of the same cells, named data.name=%s: it keeps this name, in figures and tables too, not %s"
        log.warning(message, run.name, stored, asked)
    if state == "exists":
        log.info("%s exists: not trained again", run.name)
    return Outcome(run.name, state, code_differences(run, experiment))


def _evaluate(run: StoredRun, experiment: Experiment, dataset: CellDataset, conditions: list[Condition]) -> StoredRun:
    log.info("%s exists: evaluated under %d more conditions, not trained again", run.name, len(conditions))
    started = time.perf_counter()
    predicted = restore_predict_fn(run, experiment, dataset)(conditions, dataset.split.test)
    path = experiment.path(dataset.store.geometry)
    scores = score(dataset, path, predicted, run.record.temperature, run.record.settings.data.costs)
    cells = dataset.store.rows(dataset.split.test)
    run = run.with_evaluation(cells, dataset.test_labels, Evaluated(predicted, scores), time.perf_counter() - started)
    print_conditions(run.name, scores)
    return run


def _show(run: StoredRun, dataset: CellDataset, trackers: list[TrackerSettings], anew: bool) -> None:
    if trackers:
        with Tracking(trackers) as tracking:
            tracking.show(StoredRun.open(run.folder), dataset, anew)


def _has_new_costs(run: StoredRun, experiment: Experiment) -> bool:
    costs = experiment.data.costs
    return bool(costs.classes) and costs != run.record.settings.data.costs


def _missing(run: StoredRun, conditions: list[Condition]) -> list[Condition]:
    """The conditions that a run was not evaluated under."""
    evaluated = {row.condition for row in run.record.metrics}
    return [condition for condition in conditions if condition not in evaluated]


def _not_shown(run: StoredRun, experiment: Experiment) -> list[TrackerSettings]:
    """The trackers that do not have a finished run: one failed, or it was not asked for then. None for another user's
    run, and for one whose version did not note it.
    """
    if run.record.logged is None or not os.access(run.folder, os.W_OK):
        return []
    return [each for each in experiment.trackers if name_of(each) not in run.record.logged]
