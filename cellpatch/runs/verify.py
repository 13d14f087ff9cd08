"""Is every run as it was written? Record, files, identity, and scores computed again without a model."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from cellpatch.metrics.calibration import fit_temperature
from cellpatch.metrics.classification import Costs, score_predictions
from cellpatch.optics.conditions import CLEAN, Condition
from cellpatch.runs import legacy
from cellpatch.runs.condition_scores import ConditionScores, metrics_row
from cellpatch.runs.folders import require_runs
from cellpatch.runs.identity import identity
from cellpatch.runs.predictions import Predictions
from cellpatch.runs.readable import read_each
from cellpatch.runs.stored_run import WEIGHTS, StoredRun
from cellpatch.runtime.json_types import Json

_TOLERANCE = 1e-6  # relative: another machine adds in another order


def verify(*paths: Path) -> list[str]:
    """Problems of the runs that `paths` name, a line each; raises ValueError if there is no run."""
    return verify_runs(require_runs(paths))


def verify_runs(folders: Iterable[Path]) -> list[str]:
    """Problems of runs, a line each; one that cannot be read is a problem."""
    read = read_each(folders, lambda folder: _problems_of(StoredRun.open(folder)))
    return [*read.problems, *(problem for problems in read.runs for problem in problems)]


def _problems_of(run: StoredRun) -> list[str]:
    """What a run states otherwise than its files; raises ValueError for a file that cannot be read."""
    run.check_files()
    check_weights(run)
    named = run.name.rpartition("-")[2]
    computed = identity_of(run)
    problems = [f"{name} differs from the value computed from its predictions" for name in mismatched_metrics(run)]
    if not computed == run.record.identity == named:
        stated = f"{run.record.identity} by its record, {named} by its name"
        problems.append(f"its identity is {computed} by its settings, {stated}")
    return [f"{run.folder}: {problem}" for problem in problems]


def check_weights(run: StoredRun) -> None:
    """Raise ValueError if the header of a run's weights cannot be read, or names no tensor; loads none of them."""
    file = run.folder / WEIGHTS
    try:
        with safe_open(file, framework="numpy") as tensors:
            names = list(tensors.keys())
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} is not a readable safetensors file ({error})") from error
    if not names:
        raise ValueError(f"{file}: it holds no tensors")


def identity_of(run: StoredRun) -> str:
    """The identity that a run's settings and fingerprints give, by the rule of the version that wrote it.

    Raises ValueError for a setting that this version's runs state and this one does not.
    """
    record = run.record
    facts = record.data.fingerprint, record.weights
    if record.training_code is None:
        try:
            return legacy.identity(run.stored_config, *facts, record.cellpatch)
        except LookupError as error:
            raise ValueError(f"{run.folder}: config lacks {error}") from error
    pretraining = None if record.pretraining is None else record.pretraining.fingerprint
    return identity(record.settings, *facts, record.training_code.number, pretraining)


def mismatched_metrics(run: StoredRun) -> list[str]:
    """Names of what a record states otherwise than the stored predictions: metrics, and the temperature.

    Earlier versions did not store the validation cells' predictions; their temperature is taken as it is.
    """
    record = run.record
    names = []
    if CLEAN in run.validation:
        _, labels, probabilities = run.validation[CLEAN]
        if not _alike(fit_temperature(labels, probabilities), record.temperature):
            names.append("temperature")
    names += _mismatched(run, record.metrics, run.predictions, record.settings.data.costs)
    for cohort in record.cohorts:
        found = _mismatched(run, cohort.metrics, run.cohort_predictions[cohort.name], None)
        names += [f"{name} of {cohort.name}" for name in found]
    if record.turned is not None:
        found = _mismatched(run, record.turned.metrics, run.turned_predictions, None)
        names += [f"{name} of turned cells" for name in found]
    return names


def _mismatched(
    run: StoredRun,
    metrics: Sequence[ConditionScores],
    predictions: Mapping[Condition, Predictions],
    costs: Costs | None,
) -> list[str]:
    record, names = run.record, []
    for row in metrics:
        _, labels, probabilities = predictions[row.condition]
        again = score_predictions(labels, probabilities, record.classes, record.temperature, costs)
        computed = metrics_row(ConditionScores(row.condition, again, row.mirrored_cells))
        stored: Json = metrics_row(row)
        at = f"{row.condition.kind} {row.condition.sigma:g}"
        if row.scores.reliability is None:  # the version did not store it
            del computed["reliability"]
        names += [f"{key} at {at}" for key in computed if not _alike(computed[key], stored.get(key))]
    return names


def _alike(first: Any, second: Any) -> bool:
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_alike(first[key], second[key]) for key in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_alike, first, second))
    if isinstance(first, float) and isinstance(second, int | float):
        return math.isclose(first, second, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    return bool(first == second)
