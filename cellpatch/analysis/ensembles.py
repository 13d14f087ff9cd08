"""Averaged predictions: ensembles of a group's seeds, test-time augmentation, and both; what they gain and cost."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from cellpatch.analysis.cells import (
    PredictedCells,
    cells_of,
    compared_conditions,
    has_validation,
    joined,
    validation_cells,
)
from cellpatch.analysis.estimates import Estimate, difference
from cellpatch.analysis.groups import SeedGroup
from cellpatch.analysis.labels import row_of
from cellpatch.analysis.run_result import RunResult
from cellpatch.metrics.calibration import fit_temperature, scale
from cellpatch.metrics.classification import Scores, score_predictions
from cellpatch.metrics.scores import class_counts, macro_f1
from cellpatch.optics.conditions import CLEAN, Condition
from cellpatch.runs.condition_scores import ConditionScores

SINGLE, ENSEMBLE = "single networks", "ensemble"
TURNED, BOTH = "test-time augmentation", "both"


@dataclass(frozen=True)
class Averaged:
    """How a group predicts under a condition: by its single networks (means over them), or by averages.

    `passes` are forward passes of one network for a cell. `change` is that of macro-F1 from single networks, paired by
    specimen; the interval of an ensemble is of these networks, over specimens alone. `ece` and `nll` are after
    temperature scaling, with temperatures of validation cells in a single view.
    """

    condition: Condition
    by: str
    passes: int
    macro_f1: Estimate
    change: Estimate
    accuracy: float
    ece: float
    nll: float


def averaged(group: SeedGroup, condition: Condition = CLEAN) -> list[Averaged]:
    """Single networks first, then every average that the group's runs allow.

    An ensemble needs two seeds in folders, with validation cells; test-time augmentation must have been evaluated.
    """
    single = group.estimate(condition, macro_f1)
    found = [_of_networks(group, condition, SINGLE, [_row(run.record.metrics, condition) for run in group.runs])]
    turned, ensemble = _is_turned(group, condition), _is_ensemble(group)
    if turned:
        views = [run.record.turned for run in group.runs if run.record.turned is not None]
        found.append(
            _of_networks(group, condition, TURNED, [_row(each.metrics, condition) for each in views], views[0].views)
        )
    if ensemble:
        found.append(_of_ensemble(group, condition, single, ENSEMBLE, 1))
    if ensemble and turned:
        found.append(_of_ensemble(group, condition, single, BOTH, found[1].passes))
    return found


def _is_turned(group: SeedGroup, condition: Condition) -> bool:
    return all(condition in run.turned for run in group.runs)


def _is_ensemble(group: SeedGroup) -> bool:
    return len(group.runs) > 1 and all(has_validation(run) for run in group.trainings)


def ensemble_cells(group: SeedGroup, condition: Condition = CLEAN, turned: bool = False) -> PredictedCells:
    """The test cells with the probabilities of the ensemble of a group's seeds, of each fold with its own.

    Means of each network's scaled probabilities, scaled again by a temperature that is fitted to these means of clean
    validation cells: means alone are less sure than they are right (Rahaman and Thiery, arXiv 2007.08792). Raises
    ValueError for packed runs, and if the seeds have other cells.
    """
    folds = zip(*(run.trainings for run in group.runs), strict=True)
    return joined([_ensemble_of(networks, condition, turned) for networks in folds])


def _ensemble_of(networks: Sequence[RunResult], condition: Condition, turned: bool) -> PredictedCells:
    temperatures = [network.record.temperature for network in networks]
    validation = _mean_cells([validation_cells(network) for network in networks], temperatures)
    cells = _mean_cells([cells_of(network, condition, turned) for network in networks], temperatures)
    temperature = fit_temperature(validation.labels, validation.probabilities)
    return replace(cells, probabilities=scale(cells.probabilities, temperature))


def _mean_cells(members: Sequence[PredictedCells], temperatures: Sequence[float]) -> PredictedCells:
    first = members[0]
    if any(not np.array_equal(each.ids, first.ids) for each in members):
        raise ValueError("an ensemble needs networks with equal test and validation cells")
    scaled = [scale(each.probabilities, t) for each, t in zip(members, temperatures, strict=True)]
    return replace(first, probabilities=np.mean(scaled, axis=0))


def _of_networks(
    group: SeedGroup, condition: Condition, by: str, rows: Sequence[ConditionScores], views: int = 1
) -> Averaged:
    single = group.estimate(condition, macro_f1)
    if by == SINGLE:
        score = single
    else:
        score = group.estimate_counts([class_counts(run.turned[condition]) for run in group.runs], macro_f1)
    means = {name: float(np.mean([getattr(row.scores, name) for row in rows])) for name in _MEANS}
    return Averaged(condition, by, views, score, difference(score, single), *means.values())


_MEANS = ("accuracy", "ece_scaled", "nll_scaled")


def _of_ensemble(group: SeedGroup, condition: Condition, single: Estimate, by: str, views: int) -> Averaged:
    cells = ensemble_cells(group, condition, turned=by == BOTH)
    score = group.estimate_counts([class_counts(cells.confusions())], macro_f1)
    whole: Scores = score_predictions(cells.labels, cells.probabilities, group.runs[0].record.classes, 1.0)
    passes = views * len(group.runs)
    change = difference(score, _mean_of(single))
    return Averaged(condition, by, passes, score, change, whole.accuracy, whole.ece, whole.nll)


def _mean_of(estimate: Estimate) -> Estimate:
    """The mean of these seeds as a single value: no interval over others."""
    draws, without = (each.mean(axis=1, keepdims=True) for each in (estimate.draws, estimate.without))
    return Estimate(estimate.values.mean(keepdims=True), draws, without, estimate.seeds[:1], estimate.bounds)


def _row(rows: Sequence[ConditionScores], condition: Condition) -> ConditionScores:
    return next(row for row in rows if row.condition == condition)


def million_macs(group: SeedGroup) -> float | None:
    """Millions of multiply-accumulates of one pass for one cell; None where no record states them."""
    records = [run.record for run in group.trainings]
    stated = [record.size.mmac for record in records if record.size is not None]
    stated += [record.latency.mmac for record in records if record.latency is not None]
    return stated[0] if stated else None


def with_averages(groups: Sequence[SeedGroup]) -> list[SeedGroup]:
    """The groups that have more than single networks; raises ValueError if none has."""
    found = [group for group in groups if _is_turned(group, CLEAN) or _is_ensemble(group)]
    if not found:
        raise ValueError(
            "no group has averages: an ensemble needs two seeds in the runs directory (packed runs hold no "
            "probabilities), test-time augmentation cellpatch evaluate RUNS --tta"
        )
    return found


def summarise_averages(groups: Sequence[SeedGroup]) -> pd.DataFrame:
    """One row per group, condition and way to average, with 95 % intervals; `mmac` is None where not stated.

    Raises ValueError if no group has averages.
    """
    rows = []
    for group in with_averages(groups):
        about = row_of(group, groups) | {"seeds": len(group.seeds)}
        mmac = million_macs(group)
        for condition in compared_conditions(group):
            for each in averaged(group, condition):
                row = {"kind": condition.kind, "sigma": condition.sigma, "by": each.by, "passes": each.passes}
                row |= {"mmac": None if mmac is None else each.passes * mmac}
                for name, estimate in (("macro_f1", each.macro_f1), ("change", each.change)):
                    row |= dict(zip((name, f"{name}_low", f"{name}_high"), estimate.summary(), strict=True))
                row |= {"accuracy": each.accuracy, "ece": each.ece, "nll": each.nll}
                rows.append(about | row)
    return pd.DataFrame(rows)
