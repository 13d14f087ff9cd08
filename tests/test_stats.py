"""Statistics against numpy's and scikit-learn's own on the cells themselves."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from cellpatch import stats
from cellpatch.command import from_runs

sys.path.insert(0, str(ROOT / "experiments"))
import blur_table


def _cells(seed: int, n: int = 120, k: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    predicted = np.where(rng.random(n) < 0.6, labels, rng.integers(0, k, n))
    return labels, predicted, np.array([f"s{i}" for i in rng.integers(0, 9, n)])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_draw_scores_as_its_cells_do(seed: int) -> None:
    labels, predicted, specimens = _cells(seed)
    counts = stats.confusions_by_specimen(labels, predicted, specimens, 4)
    times, redrawn = stats.resamples(counts, 5, seed)
    assert times.shape == (5, len(counts))
    assert 0 <= redrawn < 1
    drawn = stats.resample(counts, times)
    names = np.unique(specimens)
    for i, row in enumerate(times):
        assert row.sum() == len(names)
        cells = np.concatenate(
            [np.flatnonzero(specimens == name).repeat(n) for name, n in zip(names, row, strict=True)]
        )
        assert stats.accuracy(drawn)[i] == pytest.approx(accuracy_score(labels[cells], predicted[cells]))
        present = np.unique(labels)
        assert set(labels[cells]) == set(present)
        expected = f1_score(labels[cells], predicted[cells], labels=present, average="macro", zero_division=0)
        assert stats.macro_f1(drawn)[i] == pytest.approx(expected)


def test_the_interval_of_known_clusters() -> None:
    rng = np.random.default_rng(0)
    right = rng.normal(0.7, 0.1, 400).clip(0, 1)  # specimens differ, cells of one agree
    counts = np.array([[[round(1000 * p), 1000 - round(1000 * p)], [0, 0]] for p in right])
    times, redrawn = stats.resamples(counts, 4000, 1)
    assert redrawn == 0
    low, high = stats.interval(stats.accuracy(stats.resample(counts, times)))
    error = right.std() / 400**0.5
    assert low == pytest.approx(right.mean() - 1.96 * error, abs=0.1 * error + 1e-3)
    assert high == pytest.approx(right.mean() + 1.96 * error, abs=0.1 * error + 1e-3)


def test_draws_without_a_class_are_drawn_again() -> None:
    counts = np.zeros((10, 3, 3), np.int64)
    counts[:, 0, 0] = 5
    counts[0, 1, 0] = 2  # class 1 is in one specimen of ten and never found; class 2 in none
    times, redrawn = stats.resamples(counts, 5000, 0)
    assert times.shape == (5000, 10)
    assert (times.sum(axis=1) == 10).all()
    assert (times[:, 0] > 0).all()
    assert redrawn == pytest.approx(0.9**10, abs=0.02)
    low, high = stats.interval(stats.macro_f1(stats.resample(counts, times)))
    assert 0.4 < low < high < 0.5, "never the score of class 0 alone"
    assert times[:, 1].mean() == pytest.approx(times[:, 5].mean(), abs=0.05)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_slope_and_area_are_numpys(seed: int) -> None:
    sigmas = [0.0, 0.4, 0.8, 1.6, 3.2]
    scores = np.random.default_rng(seed).random((3, 5))
    x = np.log2(1 + np.array(sigmas))
    np.testing.assert_allclose(stats.slope(sigmas, scores), [np.polyfit(x, row, 1)[0] for row in scores])
    np.testing.assert_allclose(
        stats.area(sigmas, scores),
        [np.interp(np.linspace(0, x[-1], 100001), x, row).mean() for row in scores],
        atol=1e-4,
    )


def test_known_degradation() -> None:
    sigmas = [0.0, 1.0, 3.0]
    assert stats.slope(sigmas, np.array([0.9, 0.8, 0.7])) == pytest.approx(-0.1)
    assert stats.area(sigmas, np.array([0.9, 0.8, 0.7])) == pytest.approx(0.8)
    assert stats.lead_ends(sigmas, np.array([0.2, 0.1, -0.1])) == pytest.approx(2**1.5 - 1)
    assert stats.lead_ends(sigmas, np.array([-0.1, 0.1, 0.1])) == 0
    assert stats.lead_ends(sigmas, np.array([0.1, 0.1, 0.05])) == np.inf
    with pytest.raises(ValueError, match="a slope needs two sigmas"):
        stats.slope([0.0], np.array([1.0]))
    with pytest.raises(ValueError, match="rising sigmas"):
        stats.area([1.0, 0.0], np.array([1.0, 1.0]))


def test_blur_table_needs_blur(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["blur_table.py", str(tmp_path)])
    with pytest.raises(SystemExit, match="holds no run that was evaluated under blur"):
        from_runs(blur_table.write)


def _run(model: str, scores: list[float], cells: str = "c") -> dict[str, Any]:
    about = {"data": "d", "flag_limit": 8, "seed": 0, "model": model, "adapt": "scratch"}
    draws = np.array([scores, [score + 0.01 for score in scores]])
    return {"about": about, "cells": cells, "curves": {("pre", "accuracy"): ([0.0, 1.0, 3.0], np.array(scores), draws)}}


def test_a_single_specimen_has_no_interval_and_a_clean_score_of_zero_no_relative_slope() -> None:
    run = _run("cnn", [0.0, 0.0, 0.0]) | {"sampled": {("pre", 1.0): 0.9}, "facts": {}}
    for specimens, known in ((1, False), (2, True)):
        run["facts"] = {"pre": {"specimens": specimens, "redrawn": 0.0}}
        table = blur_table.summarise([run]).set_index("what")
        assert table.loc[["sigma 0", "slope", "area"], ["low", "high"]].notna().all(axis=None) == known
        assert table.loc["relative slope", ["value", "low", "high"]].isna().all()
        assert table.loc["sigma 1", "sampled"] == 0.9
        assert (table["specimens"] == specimens).all()


def test_where_a_lead_ends() -> None:
    sharp, steady = _run("sharp", [0.9, 0.7, 0.3]), _run("steady", [0.8, 0.7, 0.6])
    [row] = blur_table.leads([steady, sharp, _run("elsewhere", [0.5, 0.4, 0.3], "other cells")]).to_dict("records")
    assert (row["ahead"], row["behind"]) == ("sharp", "steady")
    assert row["ends"] == row["low"] == row["high"] == pytest.approx(1.0)
    fewer = _run("fewer", [0.9, 0.7, 0.3])
    sigmas, values, draws = fewer["curves"]["pre", "accuracy"]
    fewer["curves"]["pre", "accuracy"] = (sigmas[::2], values[::2], draws[:, ::2])
    [row] = blur_table.leads([steady, fewer]).to_dict("records")
    assert row["ends"] == pytest.approx(4**0.25 - 1), "of the sigmas that both have"
    [row] = blur_table.leads([steady, _run("weak", [0.1, 0.1, 0.1])]).to_dict("records")
    assert row["ahead"] == "steady"
    assert row["ends"] == np.inf
