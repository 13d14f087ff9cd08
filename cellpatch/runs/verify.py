"""Is every run as it was written? Record, files, identity, and scores computed again without a model."""

import math
import re
from pathlib import Path
from typing import Any

from cellpatch.metrics.calibration import fit_temperature
from cellpatch.metrics.classification import score_predictions
from cellpatch.optics.conditions import CLEAN
from cellpatch.runs import legacy
from cellpatch.runs.folders import RECORD, finished_runs
from cellpatch.runs.identity import identity
from cellpatch.runs.record import ConditionScores, metrics_row
from cellpatch.runs.stored_run import StoredRun
from cellpatch.runtime.json_types import Json

_TOLERANCE = 1e-6  # relative: another machine adds in another order


def run_folders(*paths: Path) -> list[Path]:
    """The folders named as finished runs are, or with a record: among the paths and in the folders among them.

    Raises ValueError if a path is not a folder.
    """
    folders: list[Path] = []
    for path in paths:
        if path.is_file() and len(paths) > 1:
            continue  # what a shell's runs/* names beside the runs
        named = {each for each in path.glob("[!.]*") if _is_named_as_run(each)}
        folders += [path] if _is_run(path) else sorted({*finished_runs(path), *named})
    return list(dict.fromkeys(folders))


def _is_run(folder: Path) -> bool:
    return (folder / RECORD).is_file() or _is_named_as_run(folder)


def _is_named_as_run(folder: Path) -> bool:
    return folder.is_dir() and re.search(r"-[0-9a-f]{12}$", folder.name) is not None


def verify(*paths: Path) -> list[str]:
    """Problems of runs and of folders of runs, a line each; raises ValueError if one is not a folder."""
    problems = []
    for folder in run_folders(*paths):
        try:
            run = StoredRun.open(folder)
            run.check_files()
        except ValueError as error:
            problems.append(str(error))
            continue
        named = folder.name.rpartition("-")[2]
        computed = identity_of(run)
        if not computed == run.record.identity == named:
            problems.append(
                f"{folder}: its identity is {computed} by its settings, {run.record.identity} by its record, "
                f"{named} by its name"
            )
        problems += [
            f"{folder}: {name} differs from the value computed from its predictions" for name in mismatched_metrics(run)
        ]
    return problems


def identity_of(run: StoredRun) -> str:
    """The identity that a run's settings and fingerprints give, by the rule of the version that wrote it."""
    record = run.record
    facts = record.data.fingerprint, record.weights
    if record.training_code is None:
        return legacy.identity(run.stored_config, *facts, record.cellpatch)
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
    for row in record.metrics:
        _, labels, probabilities = run.predictions[row.condition]
        again = score_predictions(labels, probabilities, record.classes, record.temperature, record.settings.data.costs)
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
