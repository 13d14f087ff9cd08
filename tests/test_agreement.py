"""Several annotators: kappa, alpha, matched points, consensus labels."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Invoke
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from cellpatch.analysis.agreement import confusion_table, crowdlab, majority, pairs_table
from cellpatch.cli.agreement import main as agreement_main
from cellpatch.data.annotators import match_points, read_ratings
from cellpatch.data.tables import read_table
from cellpatch.metrics.agreement import cohen_kappa, coincidences, krippendorff_alpha

# Krippendorff, Computing Krippendorff's Alpha-Reliability (2011): data with missing ones by four observers, 12 units.
PUBLISHED = """\
1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 ."""
CODES = np.array([[-1 if word == "." else int(word) - 1 for word in row.split()] for row in PUBLISHED.splitlines()]).T


def _alpha(labels: np.ndarray, classes: int) -> float:
    return float(krippendorff_alpha(coincidences(labels, classes, np.zeros(len(labels), int)).sum(axis=0)))


def test_alpha_is_the_published_one() -> None:
    assert _alpha(CODES, 5) == pytest.approx(0.743, abs=5e-4)
    binary = np.array([[0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]]).T  # its example A
    assert _alpha(binary, 2) == pytest.approx(0.095, abs=5e-4)


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_alpha_is_that_of_pairs_counted_one_by_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, 3, (12, 4))
    values = [row[row >= 0] for row in labels if (row >= 0).sum() > 1]
    pooled = np.concatenate([*values, [-1]])[:-1]
    n = len(pooled)
    within = sum((v[:, None] != v).sum() / (len(v) - 1) for v in values) / max(n, 1)
    between = (pooled[:, None] != pooled).sum() / max(n * (n - 1), 1)
    expected = 1 - within / between if between else float("nan")
    assert _alpha(labels, 3) == pytest.approx(expected, nan_ok=True)


def test_kappa_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 3, 200)
    second = np.where(rng.random(200) < 0.7, first, rng.integers(0, 3, 200))
    counts = np.zeros((3, 3))
    np.add.at(counts, (first, second), 1)
    assert cohen_kappa(counts) == pytest.approx(cohen_kappa_score(first, second))
    assert np.isnan(cohen_kappa(np.array([[5.0, 0], [0, 0]])))


def _write(file: Path, rows: list[tuple]) -> Path:
    names = ["annotator", "cell", "class", "specimen"]
    pd.DataFrame(rows, columns=names).to_csv(file, index=False)
    return file


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """40 cells of 8 specimens by three annotators; ben errs in a quarter, carl labels half of them."""
    rows = []
    for i in range(40):
        true = ("tumour", "stroma")[i % 2]
        rows.append(("anna", f"c{i}", true, f"p{i % 8}"))
        rows.append(("ben", f"c{i}", true if i % 4 else "stroma", f"p{i % 8}"))
        rows += [("carl", f"c{i}", true, f"p{i % 8}")] if i < 20 else []
    return _write(tmp_path / "labels.csv", rows)


def test_the_command_compares_annotators_and_writes_consensus_labels(
    invoke: Invoke, labels: Path, tmp_path: Path
) -> None:
    done = invoke(agreement_main, ["labels.csv"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "40 cells, labelled 20 by 2, 20 by 3 of 3 annotators" in done.stdout
    table = pd.read_csv(labels).pivot_table(index="cell", columns="annotator", values="class", aggfunc="first")
    found = pd.read_csv(tmp_path / "agreement" / "agreement.csv").set_index(["first", "second"])
    for pair in (("anna", "ben"), ("anna", "carl"), ("ben", "carl")):
        both = table[list(pair)].dropna()
        assert found.loc[pair, "value"] == pytest.approx(cohen_kappa_score(both[pair[0]], both[pair[1]]))
        assert found.loc[pair, "cells"] == len(both)
    row = found.loc[("anna", "ben")]
    assert -1 <= row["low"] < row["value"] < row["high"] <= 1
    consensus = pd.read_csv(tmp_path / "agreement" / "consensus.csv").set_index("cell_id")
    assert len(consensus) == 40
    assert (consensus.loc["c0"] == ["p0", "tumour", 3, 0.6667, "no"]).all()
    assert consensus.loc["c20", "tied"] == "yes"
    assert consensus.loc["c20", "class"] == "stroma", "of a tie the more frequent class"
    confusions = pd.read_csv(tmp_path / "agreement" / "confusions.csv")
    assert confusions.query("first == 'anna' and second == 'ben'")["cells"].sum() == 40
    assert len(read_table(tmp_path / "agreement" / "consensus.csv", ["class", "specimen"])) == 40
    again = invoke(agreement_main, ["labels.csv"], tmp_path)
    assert (again.returncode, "--overwrite to replace it" in again.stderr) == (1, True)
    assert invoke(agreement_main, ["labels.csv", "--overwrite"], tmp_path).returncode == 0
    (tmp_path / "agreement" / "mine.txt").write_text("keep")
    refused = invoke(agreement_main, ["labels.csv", "--overwrite"], tmp_path)
    assert "must hold nothing but" in refused.stderr
    assert (tmp_path / "agreement" / "mine.txt").exists()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("anna", "1", "a", "p"), ("anna", "2", "b", "p")], "must name two annotators or more, but has ['anna']"),
        ([("anna", "1", "a", "p"), ("ben", "1", "a", "p"), ("ben", "1", "b", "p")], "row 4: 'ben' has labelled this cell already, in labels.csv, row 3"),
        ([("anna", "1", "a", "p"), ("nan", "1", "a", "p")], "row 3: the annotator is missing"),
        ([("anna", "1", "a", "p"), ("ben", "1", "", "p")], "row 3: column 'class' is empty"),
    ],
)  # fmt: skip
def test_what_is_no_table_of_annotators(invoke: Invoke, tmp_path: Path, rows: list[tuple], message: str) -> None:
    _write(tmp_path / "labels.csv", rows)
    done = invoke(agreement_main, ["labels.csv"], tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert not (tmp_path / "agreement").exists()


def test_annotators_who_share_no_cell_have_no_kappa(invoke: Invoke, tmp_path: Path) -> None:
    _write(tmp_path / "labels.csv", [("anna", "1", "a", "p"), ("ben", "2", "b", "q")])
    done = invoke(agreement_main, ["labels.csv"], tmp_path)
    assert "anna and ben: Cohen's kappa none, 0 cells" in done.stdout


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_matched_points_are_one_of_each_annotator_and_near(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = rng.permutation(100)[:20, None] * [10.0, 0.0]
    xy = np.concatenate([true + rng.uniform(-1, 1, true.shape) for _ in range(3)])
    annotators = np.repeat(np.arange(3), 20)
    cell = match_points(xy, annotators, 4.0)
    np.testing.assert_array_equal(cell, np.tile(np.arange(20), 3))
    np.testing.assert_array_equal(match_points(xy, np.zeros(60, int), 4.0), np.arange(60))


def test_points_of_annotators_are_joined_by_place(invoke: Invoke, tmp_path: Path) -> None:
    points = [
        ("anna", 10, 10, "a"),
        ("anna", 50, 50, "b"),
        ("ben", 12, 10, "a"),
        ("ben", 53, 50, "a"),
        ("ben", 90, 9, "b"),
    ]
    table = pd.DataFrame(points, columns=["annotator", "x", "y", "class"]).assign(image="i.png")
    table.to_csv(tmp_path / "points.csv", index=False)
    done = invoke(agreement_main, ["points.csv", "--within", "2", "--um-per-px", "0.5"], tmp_path)
    assert "3 cells, labelled 1 by 1, 2 by 2 of 2 annotators" in done.stdout, done.stderr
    consensus = pd.read_csv(tmp_path / "agreement" / "consensus.csv")
    assert consensus[["x", "y"]].to_numpy().tolist() == [[11, 10], [51.5, 50], [90, 9]]
    assert consensus["cell_id"].tolist() == ["i.png#1", "i.png#2", "i.png#3"]
    for words, message in (
        (["--within", "2"], "x and y are in pixels: --within needs --um-per-px"),
        (["--within", "-1", "--um-per-px", "1"], "must be > 0"),
        ([], "must name the cells in a column cell_id or path"),
    ):
        refused = invoke(agreement_main, ["points.csv", "--out", "other", *words], tmp_path)
        assert (refused.returncode, message in refused.stderr) == (1, True), refused.stderr


def test_crowdlab_follows_confident_networks_where_votes_tie(labels: Path) -> None:
    ratings = read_ratings(labels)
    true = np.array([ratings.classes.index(("tumour", "stroma")[i % 2]) for i in range(40)])
    found = crowdlab(ratings, np.where(np.eye(2)[true] == 1, 0.95, 0.05))
    np.testing.assert_array_equal(found.labels, true)
    by_votes = majority(ratings)
    assert (by_votes.labels != true).sum() == 5, "votes alone: the ties of anna and ben"
    assert (found.quality[by_votes.tied] < found.quality[~by_votes.tied].mean()).all()


def test_perfect_agreement_is_one(tmp_path: Path) -> None:
    rows = [(who, str(i), "ab"[i % 2], f"p{i % 3}") for who in ("anna", "ben") for i in range(12)]
    ratings = read_ratings(_write(tmp_path / "t.csv", rows))
    assert pairs_table(ratings)[["value", "low", "high"]].to_numpy().tolist() == [[1.0, 1.0, 1.0]] * 2
    assert confusion_table(ratings)["cells"].tolist() == [6, 6]
