"""Is every run as it was written? Record, files, identity, and metrics, computed again without a model."""

import math
import re
from pathlib import Path
from typing import Any

from cellpatch.config.instantiate import build
from cellpatch.metrics.classification import fit_temperature, score_predictions
from cellpatch.optics.conditions import CLEAN, Condition
from cellpatch.runs.identity import identity
from cellpatch.runs.record import VALIDATION, check_files, predictions_by_condition, read_record
from cellpatch.runs.table import check_folder

_CLOSE = 1e-6  # relative: another machine takes sums in another order


def run_folders(runs_dir: Path) -> list[Path]:
    """The folders named as finished runs are or with a record; ValueError if runs_dir is no folder."""
    check_folder(runs_dir)
    folders = (each for each in runs_dir.glob("[!.]*") if each.is_dir())
    return sorted(
        each for each in folders if re.search(r"-[0-9a-f]{12}$", each.name) or (each / "record.json").exists()
    )


def verify(runs_dir: Path) -> list[str]:
    """What is not as it was written, a line each; raises ValueError if the folder is absent."""
    problems = []
    for run in run_folders(runs_dir):
        try:
            check_files(run)
        except ValueError as error:
            problems.append(str(error))
            continue
        record = read_record(run)
        again = identity(record["config"], record["data"]["fingerprint"], record["weights"], record["cellpatch"])
        named = run.name.rpartition("-")[2]
        if not again == record["identity"] == named:
            problems.append(
                f"{run}: its identity is {again} by its config, {record['identity']} by its record, {named} by its name"
            )
        problems += [f"{run}: {name} is not what its predictions give" for name in mismatched_metrics(run, record)]
    return problems


def mismatched_metrics(run: Path, record: dict[str, Any]) -> list[str]:
    """Names of what a record states otherwise than the run's stored predictions: metrics, and the temperature.

    Runs of earlier versions did not store the validation cells' predictions, and their temperature is taken as it is.
    """
    costs, temperature = build(record["config"]["data"]["costs"]), record["temperature"]
    found = []
    if VALIDATION in record["files"]:
        _, labels, probabilities = predictions_by_condition(run, VALIDATION)[CLEAN]
        if not _alike(fit_temperature(labels, probabilities), temperature):
            found.append("temperature")
    stored = predictions_by_condition(run)
    for row in record["metrics"]:
        _, labels, probabilities = stored[Condition(row["kind"], row["sigma"])]
        again = score_predictions(labels, probabilities, record["classes"], temperature, costs)
        found += [f"{key} at {row['kind']} {row['sigma']:g}" for key in again if not _alike(again[key], row.get(key))]
    return found


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=_CLOSE, abs_tol=_CLOSE)
    return one == other
