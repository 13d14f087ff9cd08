"""Prediction sets of groups: calibrated on validation specimens, their coverage measured on test specimens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from cellpatch.analysis.cells import PredictedCells, cells_of, compared_conditions, validation_cells, with_cells
from cellpatch.analysis.estimates import Estimate
from cellpatch.analysis.groups import SeedGroup
from cellpatch.analysis.labels import row_of
from cellpatch.analysis.run_result import RunResult
from cellpatch.metrics.prediction_sets import (
    nonconformity,
    prediction_sets,
    quantile_by_cell,
    quantile_by_specimen,
    specimens_needed,
    thresholds_by_class,
)
from cellpatch.optics.conditions import Condition

LEVEL = 0.9  # of figures and tables
Threshold = float | Float[np.ndarray, " classes"]
Calibrate = Callable[[RunResult, float], Threshold]


def by_cell(training: RunResult, level: float) -> Threshold:
    """As if all validation cells were independent: what specimens cost shows against it."""
    cells = validation_cells(training)
    return quantile_by_cell(nonconformity(cells.labels, cells.probabilities), level)


def by_specimen(training: RunResult, level: float) -> Threshold:
    """For a cell of a new specimen; validation cells are weighted to the class frequencies before val_limit."""
    cells = _calibration_cells(training, level)
    scores = nonconformity(cells.labels, cells.probabilities)
    return quantile_by_specimen(scores, cells.specimens, level, class_weights(training)[cells.labels])


def by_class(training: RunResult, level: float) -> Threshold:
    """For a cell of each class in a new specimen, so that no frequency of classes matters."""
    cells = _calibration_cells(training, level)
    scores = nonconformity(cells.labels, cells.probabilities)
    return thresholds_by_class(scores, cells.labels, cells.specimens, len(training.record.classes), level)


CALIBRATIONS: dict[str, Calibrate] = {"cell": by_cell, "specimen": by_specimen, "specimen and class": by_class}


def class_weights(training: RunResult) -> Float[np.ndarray, " classes"]:
    """Of how many cells a validation cell of each class is a sample, up to a factor.

    Validation has at most val_limit cells a class. If one has as many, classes are weighted to their frequencies in the
    training specimens; else all weights are 1. Raises ValueError if the record does not state these frequencies.
    """
    record = training.record
    used = np.array([record.counts.get("validation", {}).get(name, 0) for name in record.classes], float)
    audit = record.audit
    if audit is None or audit.train_available is None or audit.val_limit is None:
        raise ValueError(f"{training.run}: its record states no class frequencies: train it with this version")
    if used.max() < audit.val_limit:
        return np.ones(len(used))
    available = np.array([max(1, audit.train_available.get(name, 1)) for name in record.classes], float)
    return np.divide(available, used, out=np.ones(len(used)), where=used > 0)


def _calibration_cells(training: RunResult, level: float) -> PredictedCells:
    cells = validation_cells(training)
    n, needed = len(np.unique(cells.specimens)), specimens_needed(level)
    if n < needed:
        raise ValueError(f"sets of {100 * level:g} % need {needed} validation specimens, but {training.run} has {n}")
    return cells


@dataclass(frozen=True, eq=False)
class SetCounts:
    """Cells of each test specimen and class, and the sets of how many hold the true class, one class, or none.

    `classes` sums the sizes of the sets.
    """

    cells: Int[np.ndarray, "specimens classes"]
    covered: Int[np.ndarray, "specimens classes"]
    classes: Int[np.ndarray, "specimens classes"]
    single: Int[np.ndarray, "specimens classes"]
    empty: Int[np.ndarray, "specimens classes"]


def count_sets(run: RunResult, condition: Condition, level: float, calibrate: Calibrate) -> SetCounts:
    """The sets of a run's test cells, each fold with its own calibration; thresholds are of clean validation cells."""
    sets = []
    for training in run.trainings:
        threshold = calibrate(training, level)
        sets.append(prediction_sets(cells_of(training, condition).probabilities, threshold))
    return _count(cells_of(run, condition), np.concatenate(sets))


def _count(cells: PredictedCells, sets: Bool[np.ndarray, "n classes"]) -> SetCounts:
    sizes = sets.sum(axis=1)
    covered = sets[np.arange(len(sets)), cells.labels]
    codes = cells.specimen_codes
    shape = (codes.max() + 1, sets.shape[1])
    place = np.ravel_multi_index((codes, cells.labels), shape)

    def total(values: np.ndarray) -> Int[np.ndarray, "specimens classes"]:
        return np.bincount(place, values, np.prod(shape)).astype(np.int64).reshape(shape)

    return SetCounts(*map(total, (np.ones(len(sets)), covered, sizes, sizes == 1, sizes == 0)))


@dataclass(frozen=True)
class MeasuredSets:
    """Of a group's sets under a condition: shares of cells, means over specimens, and each class's coverage.

    `coverage` is the mean over test specimens, which is what calibration by specimen promises; `coverage_of_cells` is
    over all cells. `lowest` is the coverage in the worst specimen, a mean over seeds.
    """

    coverage: Estimate
    coverage_of_cells: Estimate
    classes: Estimate
    single: Estimate
    empty: Estimate
    lowest: float
    of_class: dict[str, Estimate]


def measure_sets(group: SeedGroup, condition: Condition, level: float, calibrate: Calibrate) -> MeasuredSets:
    """Sets of 100 `level` % of the test cells; raises ValueError if a run has no cells or too few specimens for it."""
    runs = [count_sets(run, condition, level, calibrate) for run in group.runs]
    n_classes = len(group.runs[0].record.classes)

    def share(name: str, most: float = 1.0) -> Estimate:
        return group.estimate_counts(
            [np.stack([getattr(each, name).sum(axis=1), each.cells.sum(axis=1)], axis=1) for each in runs],
            _ratio,
            (0.0, most),
        )

    of_specimen = [each.covered.sum(axis=1) / each.cells.sum(axis=1) for each in runs]
    names = group.runs[0].record.classes
    return MeasuredSets(
        coverage=group.estimate_counts([np.stack([each, np.ones(len(each))], axis=1) for each in of_specimen], _ratio),
        coverage_of_cells=share("covered"),
        classes=share("classes", n_classes),
        single=share("single"),
        empty=share("empty"),
        lowest=float(np.mean([each.min() for each in of_specimen])),
        of_class={
            name: group.estimate_counts([np.stack([e.covered[:, i], e.cells[:, i]], axis=1) for e in runs], _ratio)
            for i, name in enumerate(names)
            if runs[0].cells[:, i].any()
        },
    )


def _ratio(counts: np.ndarray) -> np.ndarray:
    """Along the last axis, the first of two counts by the second; NaN without cells."""
    part, whole = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    return np.asarray(np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0))


def summarise_sets(groups: Sequence[SeedGroup], level: float = LEVEL) -> pd.DataFrame:
    """One row per group, calibration and condition, with 95 % intervals; raises ValueError as `measure_sets`."""
    rows = []
    for group in with_cells(groups):
        about = row_of(group, groups) | {"seeds": len(group.seeds)}
        for name, calibrate in CALIBRATIONS.items():
            for condition in compared_conditions(group):
                sets = measure_sets(group, condition, level, calibrate)
                row = {"level": level, "calibrated_by": name, "kind": condition.kind, "sigma": condition.sigma}
                for part in ("coverage", "coverage_of_cells", "classes", "single", "empty"):
                    ends = getattr(sets, part).summary()
                    row |= dict(zip((part, f"{part}_low", f"{part}_high"), ends, strict=True))
                row |= {"lowest_specimen": sets.lowest}
                row |= {f"coverage_{each}": estimate.mean for each, estimate in sets.of_class.items()}
                rows.append(about | row)
    return pd.DataFrame(rows)
