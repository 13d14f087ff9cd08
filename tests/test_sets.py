"""Prediction sets: thresholds against MAPIE and simulations with specimens, coverage of stored runs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mapie.classification import SplitConformalClassifier
from simulated import CLASSES, cells_of, in_folders, restated, simulated
from sklearn.base import BaseEstimator, ClassifierMixin

from cellpatch.analysis import cells
from cellpatch.analysis.cells import PredictedCells
from cellpatch.analysis.groups import group_by_seed
from cellpatch.analysis.run_result import RunResult
from cellpatch.analysis.sets import _count, by_specimen, class_weights, measure_sets
from cellpatch.metrics.prediction_sets import (
    nonconformity,
    prediction_sets,
    quantile_by_cell,
    quantile_by_specimen,
    specimens_needed,
    thresholds_by_class,
)
from cellpatch.optics.conditions import CLEAN


def _probabilities(rng: np.random.Generator, n: int, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    labels = rng.integers(0, classes, n)
    logits = rng.normal(0, 1, (n, classes)) + 1.5 * np.eye(classes)[labels]
    return labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


class _Given(ClassifierMixin, BaseEstimator):
    """A fitted classifier whose probabilities are its input."""

    def __init__(self, classes: int = 4) -> None:
        self.classes = classes
        self.classes_ = np.arange(classes)

    def fit(self, x: np.ndarray, y: np.ndarray) -> "_Given":
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x.argmax(axis=1))

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        return x

    def __sklearn_is_fitted__(self) -> bool:
        return True


@pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("n", [50, 201])
def test_sets_are_mapies_where_each_specimen_has_one_cell(level: float, n: int) -> None:
    rng = np.random.default_rng(n)
    labels, probabilities = _probabilities(rng, n)
    _, new = _probabilities(rng, 300)
    theirs = SplitConformalClassifier(_Given(), confidence_level=level, conformity_score="lac", prefit=True)
    theirs.conformalize(probabilities, labels)
    expected = theirs.predict_set(new)[1][:, :, 0]
    scores = nonconformity(labels, probabilities)
    threshold = quantile_by_specimen(scores, np.arange(n), level)
    assert threshold == quantile_by_cell(scores, level)
    np.testing.assert_array_equal(prediction_sets(new, threshold), expected)


def test_thresholds_of_known_cells() -> None:
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.9, 0.5])
    specimens = np.array(["a", "a", "a", "a", "b", "c"])
    # K = 3: each specimen weighs 1/4, a cell of a 1/16
    assert quantile_by_specimen(scores, specimens, 0.2) == 0.4
    assert quantile_by_specimen(scores, specimens, 0.5) == 0.5
    assert quantile_by_specimen(scores, specimens, 0.75) == 0.9
    assert quantile_by_specimen(scores, specimens, 0.76) == np.inf


@pytest.mark.parametrize(("level", "needed"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99)])
def test_fewer_specimens_than_needed_have_no_threshold(level: float, needed: int) -> None:
    assert specimens_needed(level) == needed
    assert np.isfinite(quantile_by_specimen(np.zeros(needed), np.arange(needed), level))
    assert np.isinf(quantile_by_specimen(np.zeros(needed - 1), np.arange(needed - 1), level)) or needed == 1


@given(
    scores=arrays(float, 12, elements=st.floats(0, 1)),
    weights=arrays(int, 12, elements=st.integers(1, 4)),
    level=st.floats(0.05, 0.95),
)
def test_a_weight_is_as_many_equal_cells(scores: np.ndarray, weights: np.ndarray, level: float) -> None:
    specimens = np.arange(12) % 4
    weighted = quantile_by_specimen(scores, specimens, level, weights.astype(float))
    repeated = quantile_by_specimen(np.repeat(scores, weights), np.repeat(specimens, weights), level)
    assert weighted == repeated


def _study(rng: np.random.Generator, specimens: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of cells around their specimen's own mean; hard specimens have few cells."""
    means = rng.normal(0, 1, specimens)
    sizes = np.where(means > 0, 5, 80)
    codes = np.repeat(np.arange(specimens), sizes)
    return means[codes] + rng.normal(0, 0.7, len(codes)), codes


def test_specimens_are_covered_as_promised_and_not_by_calibration_of_cells() -> None:
    rng = np.random.default_rng(0)
    by_cell, by_specimen = [], []
    for _ in range(600):
        scores, codes = _study(rng, 30)
        new, of = _study(rng, 20)
        for found, threshold in (
            (by_cell, quantile_by_cell(scores, 0.9)),
            (by_specimen, quantile_by_specimen(scores, codes, 0.9)),
        ):
            found.append(np.mean([(new[of == k] <= threshold).mean() for k in range(20)]))
    assert np.mean(by_cell) < 0.8
    assert 0.895 < np.mean(by_specimen) < 0.945


def test_each_class_is_covered_however_frequent_it_is() -> None:
    rng = np.random.default_rng(1)
    covered: dict[int, list[float]] = {0: [], 1: []}
    for _ in range(300):
        codes = np.repeat(np.arange(30), 12)
        labels = (rng.random(len(codes)) < 0.1).astype(int)
        scores = rng.normal(0, 1, 30)[codes] + rng.normal(0, 1, len(codes)) + 2 * labels
        thresholds = thresholds_by_class(scores, labels, codes, 3, 0.8)
        assert np.isinf(thresholds[2]), "a class without cells is in every set"
        for label in covered:
            new = rng.normal(0, np.sqrt(2), 200) + 2 * label
            covered[label].append(float((new <= thresholds[label]).mean()))
    assert all(0.79 < np.mean(found) < 0.86 for found in covered.values()), {k: np.mean(v) for k, v in covered.items()}


def test_sets_are_counted_by_specimen_and_class() -> None:
    four = PredictedCells(
        np.array(["1", "2", "3", "4"]),
        np.array(["s2", "s1", "s2", "s2"]),
        np.array([0, 1, 1, 0]),
        np.full((4, 2), 0.5),
    )
    sets = np.array([[True, True], [False, True], [False, False], [False, True]])
    counts = _count(four, sets)
    assert counts.cells.tolist() == [[0, 1], [2, 1]]
    assert counts.covered.tolist() == [[0, 1], [1, 0]]
    assert counts.classes.tolist() == [[0, 1], [3, 0]]
    assert counts.single.tolist() == [[0, 1], [1, 0]]
    assert counts.empty.tolist() == [[0, 0], [0, 1]]
    np.testing.assert_array_equal(four.specimen_codes, [1, 0, 1, 1])


def _with_counts(validation: dict[str, int], limit: int | None = 512) -> RunResult:
    run = simulated(limits=(256,), seeds=(0,))[0]
    audit = {"by": "specimen", "val_limit": limit, "train_available": dict(zip(CLASSES, (900, 300, 40), strict=True))}
    return restated(run, audit=audit, counts=run.stored["counts"] | {"validation": validation})


def test_validation_cells_are_weighted_where_their_number_was_limited() -> None:
    limited = _with_counts(dict(zip(CLASSES, (512, 100, 10), strict=True)))
    np.testing.assert_allclose(class_weights(limited), [900 / 512, 3, 4])
    np.testing.assert_array_equal(class_weights(_with_counts(dict(zip(CLASSES, (511, 100, 10), strict=True)))), 1)
    with pytest.raises(ValueError, match="its record states no class frequencies"):
        class_weights(_with_counts({}, limit=None))


def test_sets_of_simulated_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation is equal to test: the share of covered cells of the mean specimen is just above the level."""
    monkeypatch.setattr(cells, "_opened", cells_of)
    [group] = group_by_seed(in_folders(simulated(limits=(256,), seeds=(0, 1))[:2]))
    for level in (0.8, 0.9):
        sets = measure_sets(group, CLEAN, level, by_specimen)
        assert level < sets.coverage.mean < level + 0.05
        assert sets.coverage.interval()[0] < sets.coverage.mean
        assert sets.single.mean <= 1 - sets.empty.mean
        assert 0 < sets.classes.mean < 3
