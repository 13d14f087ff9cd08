"""k-fold: every specimen is tested once; figures, tables and pages are of all folds together."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import make_all
import numpy as np
import pytest
import report
from conftest import Invoke, config_of, square_crop
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss, matthews_corrcoef
from sklearn.model_selection import StratifiedGroupKFold
from stored import read_record, replace_record

from cellpatch.analysis.groups import data_sets, group_by_seed
from cellpatch.analysis.packed_results import pack
from cellpatch.analysis.results import read_results
from cellpatch.analysis.run_result import RunResult
from cellpatch.analysis.selection import Selection
from cellpatch.cli.train import main as train_main
from cellpatch.config.schema import compose_config
from cellpatch.config.validate import check
from cellpatch.data.splits import BySpecimen, KFold
from cellpatch.data.splitter import LabelledCells, Split
from cellpatch.figures.captions import sample_size_caption
from cellpatch.metrics.calibration import scale
from cellpatch.metrics.classification import Costs, score_predictions
from cellpatch.metrics.pooling import matthews, pool_scores
from cellpatch.metrics.scores import macro_f1
from cellpatch.optics.conditions import CLEAN, Condition
from cellpatch.runs.folders import finished_runs
from cellpatch.runs.stored_run import StoredRun
from cellpatch.sweeps.train import train

SMALL = ["model=cnn", "model.backbone.input_px=16", "model.backbone.widths=[4,8]", "adapt.batch_size=8", "flag_limit=6"]
SMALL += ["trainer.max_epochs=1", "data/split=kfold", "data.split.folds=3"]

# Figures of several limits or sides, of CustomViT, and what needs cards of latency and features: the runs have none.
MAY_FAIL = {"figure2", "figure3", "figure_customvit", "figure_features", "figure_input_side", "figure_planner"}
MAY_FAIL |= {"figure_field", "field_table"}  # one field
MAY_FAIL |= {"figure_separability", "figure_specimens", "latency_table"}
MAY_FAIL |= {"figure_external", "external_table", "figure_robustness", "robustness_table"}  # no cohort, no other fault
MAY_FAIL |= {"ensemble_table", "figure_sets", "sets_table"}  # one seed, few specimens


def _cells(n: int, specimens: int, seed: int) -> tuple[LabelledCells, list[str]]:
    rng = np.random.default_rng(seed)
    names = np.array([f"s{i:03}" for i in rng.integers(0, specimens, n)])
    return LabelledCells(rng.choice(3, n, p=[0.6, 0.3, 0.1]), names, np.arange(n).astype("S16")), ["a", "b", "c"]


def _folds(cells: LabelledCells, classes: list[str], folds: int, seed: int = 0, **settings: Any) -> list[Split]:
    return [KFold(k, folds, seed, 0.2, 1000, **settings).split(cells, classes, 10_000) for k in range(folds)]


@settings(max_examples=25)
@given(folds=st.integers(2, 6), world=st.integers(0, 40), seed=st.integers(0, 20))
def test_every_specimen_is_tested_once_and_never_trained_on_then(folds: int, world: int, seed: int) -> None:
    cells, classes = _cells(900, 30, world)
    splits = _folds(cells, classes, folds, seed)
    tested = np.concatenate([split.test for split in splits])
    np.testing.assert_array_equal(np.sort(tested), np.arange(900))
    by_fold = [set(cells.specimens[split.test]) for split in splits]
    assert sum(map(len, by_fold)) == len(set(cells.specimens))
    for split in splits:
        parts = [set(cells.specimens[part]) for part in (split.train, split.validation, split.test)]
        assert len(set.union(*parts)) == sum(map(len, parts))
        for part in (split.train, split.validation, split.test):
            assert set(cells.labels[part]) == {0, 1, 2}


def test_the_folds_are_those_of_scikit_learn() -> None:
    cells, classes = _cells(600, 20, 0)
    expected = StratifiedGroupKFold(4, shuffle=True, random_state=3).split(cells.labels, cells.labels, cells.specimens)
    for split, (_, test) in zip(_folds(cells, classes, 4, seed=3), expected, strict=True):
        np.testing.assert_array_equal(split.test, test)


def test_classes_are_spread_over_the_folds() -> None:
    cells, classes = _cells(6000, 60, 1)
    for split in _folds(cells, classes, 5):
        shares = np.bincount(cells.labels[split.test], minlength=3) / len(split.test)
        np.testing.assert_allclose(shares, np.bincount(cells.labels) / 6000, rtol=0.15)
        assert len(split.test) == pytest.approx(1200, rel=0.15)
        assert len(split.validation) == pytest.approx(960, rel=0.2)
        assert split.audit.shares == {"test": 0.2, "validation": pytest.approx(0.16)}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.split.fold=5"], "data.split.fold must be 0 to 4, for data.split.folds=5, but got 5"),
        (["data.split.fold=-1"], "data.split.fold must be 0 to 4"),
        (["data.split.fold=0", "data.split.folds=1"], "data.split.folds must be 2 to 100, but got 1"),
        (["data.split.fold=0", "data.split.folds=1000"], "data.split.folds must be 2 to 100, but got 1000"),
        (["data.split.fold=0", "data.split.val_share=1"], "data.split.val_share must be > 0"),
        (["data.split.fold=first"], "data.split.fold must be a whole number"),
        ([], "data.split.fold"),
    ],
)
def test_what_a_fold_may_be(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        check(compose_config(["data=synthetic", "data/split=kfold", *overrides])).build("data.split")


def test_a_class_needs_a_specimen_in_each_fold() -> None:
    cells, classes = _cells(600, 20, 0)
    rare = np.isin(cells.specimens, ["s001", "s002", "s003"])
    labels = np.where((cells.labels == 2) & ~rare, 0, cells.labels)
    cells = LabelledCells(labels, cells.specimens, cells.digests)
    with pytest.raises(ValueError, match=r"class 'c' has \d+ cells in 3 specimens, but 5 folds need one specimen each"):
        KFold(0, 5, 0, 0.2, 1000).split(cells, classes, 100)
    _folds(cells, classes, 3)


def test_a_split_of_the_source_stands_against_folds() -> None:
    cells, classes = _cells(90, 9, 0)
    parts = np.array(["train", "validation", "test"])[np.array([int(name[1:]) for name in cells.specimens]) % 3]
    given = LabelledCells(cells.labels, cells.specimens, cells.digests, parts)
    BySpecimen(0, 0.2, 0.2, 1000).split(given, classes, 100)
    with pytest.raises(ValueError, match="which data.split=kfold would not change: remove its column split"):
        KFold(0, 3, 0, 0.2, 1000).split(given, classes, 100)


def _predictions(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    labels = rng.choice(4, n, p=[0.5, 0.3, 0.19, 0.01])
    return labels, rng.dirichlet(np.full(4, 0.5), n) * 0.6 + 0.4 * np.eye(4)[labels] * rng.random((n, 1))


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), sizes=st.lists(st.integers(1, 80), min_size=1, max_size=5))
def test_pooled_scores_are_those_of_all_cells(seed: int, sizes: list[int]) -> None:
    rng = np.random.default_rng(seed)
    classes, costs = ["a", "b", "c", "d"], Costs(["a", "b"], 3.0)
    each = [_predictions(rng, n) for n in sizes]
    each = [(labels, scale(p, 1.0)) for labels, p in each]
    labels, probabilities = (np.concatenate(part) for part in zip(*each, strict=True))
    pooled = pool_scores([score_predictions(*part, classes, 1.3, costs) for part in each])
    expected = score_predictions(labels, probabilities, classes, 1.3, costs)
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "mcc", "ece", "nll", "brier", "nll_scaled"):
        assert getattr(pooled, name) == pytest.approx(getattr(expected, name), abs=1e-9), name
    assert pooled.cost_weighted_error == pytest.approx(expected.cost_weighted_error)
    assert (pooled.n_test, pooled.confusion) == (expected.n_test, expected.confusion)
    assert pooled.per_class.keys() == expected.per_class.keys()
    for name, of_class in expected.per_class.items():
        found = pooled.per_class[name]
        assert [found.n_test, found.precision, found.recall, found.f1] == [
            of_class.n_test,
            *(None if value is None else pytest.approx(value) for value in (of_class.precision, of_class.recall)),
            None if of_class.f1 is None else pytest.approx(of_class.f1),
        ]
    assert pooled.mcc == pytest.approx(matthews_corrcoef(labels, probabilities.argmax(1)), abs=1e-9)


def test_a_constant_prediction_correlates_with_nothing() -> None:
    assert matthews(np.array([[3, 0], [4, 0]])) == 0 == matthews_corrcoef([0] * 3 + [1] * 4, [0] * 7)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three folds of two seeds, and of a probe, on squares of nine specimens."""
    folder = tmp_path_factory.mktemp("folds")
    rng = np.random.default_rng(0)
    for channel, label in enumerate(("red", "green", "blue")):
        for i in range(27):
            place = folder / "cells" / label / f"specimen{i % 9}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(square_crop(rng, channel)).save(place / f"{i}.png")
    blurred = ["optics=blur", "optics.sigma=1.6"]
    for fold in range(3):
        for seed in (0, 1):
            train(config_of(folder, folder / "cells", *SMALL, *blurred, f"data.split.fold={fold}", f"seed={seed}"))
        colour = ["model=colour", "flag_limit=6", "data/split=kfold", "data.split.folds=3", *blurred]
        train(config_of(folder, folder / "cells", *colour, f"data.split.fold={fold}"))
    return folder / "runs"


def _cnn(results: list[RunResult]) -> list[RunResult]:
    return Selection(models=("cnn",)).choose(results)


def test_a_runs_name_has_its_fold(runs: Path) -> None:
    names = sorted(run.name.rpartition("-")[0] for run in finished_runs(runs))
    assert names[0] == "cnn-scratch-folder-6-f0-s0"
    assert len(set(names)) == 9


@pytest.mark.parametrize("packed", [False, True])
def test_folds_are_one_run_of_all_specimens(runs: Path, tmp_path: Path, packed: bool) -> None:
    results = read_results(runs)
    if packed:
        pack(results, tmp_path / "runs.parquet")
        results = read_results(tmp_path / "runs.parquet")
    group, probe = group_by_seed(results)
    assert (group.seeds, group.folds, group.n_test, group.n_specimens) == ((0, 1), 3, 81, 9)
    assert (probe.coordinates.model, probe.folds) == ("colour", 3)
    assert len(group.trainings) == 6
    assert group.n_train == 18
    for seed, run in enumerate(group.runs):
        stored = [StoredRun.open(path) for path in finished_runs(runs) if f"-s{seed}-" in path.name]
        stored = [each for each in stored if each.record.settings.model.name == "cnn"]
        assert [each.record.audit.held_out_fold.fold for each in stored if each.record.audit] == [0, 1, 2]  # type: ignore[union-attr]
        for condition in (CLEAN, Condition("post", 1.6)):
            each = [one.predictions[condition] for one in stored]
            labels = np.concatenate([one.labels for one in each])
            predicted = np.concatenate([one.probabilities for one in each])
            score = next(row.scores for row in run.record.metrics if row.condition == condition)
            top = predicted.argmax(axis=1)
            assert group.estimate(condition, macro_f1).values[seed] == pytest.approx(
                f1_score(labels, top, average="macro")
            )
            assert score.accuracy == pytest.approx(accuracy_score(labels, top))
            assert score.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, top))
            assert score.nll == pytest.approx(log_loss(labels, scale(predicted, 1.0)), rel=1e-5)
        tested = np.concatenate([one.clean_predictions.rows["cell_id"] for one in stored])
        assert len(set(tested)) == 81
        assert run.record.counts["test"] == {"red": 27, "green": 27, "blue": 27}
    low, high = group.estimate(CLEAN, macro_f1).interval()
    assert 0 <= low < high <= 1
    assert "81 test cells of 9 specimens, each tested in one of 3 folds; 2 seeds" in sample_size_caption([group])


def test_one_fold_alone_is_a_split_like_any_other(runs: Path) -> None:
    chosen = Selection(where=("data.split.fold=1",)).choose(read_results(runs))
    groups = group_by_seed(chosen)
    assert {(group.folds, group.n_specimens) for group in groups} == {(0, 3)}


def test_a_missing_fold_is_named(runs: Path) -> None:
    results = [run for run in read_results(runs) if "cnn-scratch-folder-6-f1-s0" not in run.run]
    with pytest.raises(
        ValueError, match=r"(?s)only if all of them are there:\n  cnn-.*-f0-s0-\w+ lacks data.split.fold=1\n"
    ):
        group_by_seed(results)
    group_by_seed(Selection(models=("colour",)).choose(results))


def test_a_fold_that_is_there_twice_is_refused(runs: Path) -> None:
    results = read_results(runs)
    with pytest.raises(ValueError, match="are the same run: name it once"):
        group_by_seed([*results, results[0]])


def test_folds_beside_another_split_are_other_test_cells(runs: Path, tmp_path: Path) -> None:
    whole = [each for each in SMALL if not each.startswith(("data.split", "data/split"))]
    train(config_of(tmp_path, runs.parent / "cells", *whole))
    with pytest.raises(ValueError, match=r"(?s)cannot be averaged.*data.split.component: by_specimen \\| kfold"):
        data_sets(group_by_seed([*read_results(runs), *read_results(tmp_path / "runs")]))


@pytest.mark.long
def test_figures_tables_and_page_of_folds(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script fails only for what these runs do not have."""
    monkeypatch.chdir(tmp_path)
    by_data = data_sets(group_by_seed(read_results(runs)))
    failed = {}
    for kind in ("figures", "tables"):
        for name, found in make_all.make(by_data, kind):
            if isinstance(found, Exception):
                failed[name.removesuffix(" of folder")] = make_all.explain(found)
    assert not [why for why in failed.values() if "the script failed" in why]
    assert set(failed) <= MAY_FAIL, failed
    caption = (tmp_path / "figures" / "figure_reliability.txt").read_text()
    assert "81 test cells of 9 specimens, each tested in one of 3 folds" in caption
    report.build(read_results(runs), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "each tested in one of 3 folds" in page
    assert page.count("record.json") >= 9, "each training is linked"


def test_a_record_whose_fold_is_none_is_refused(runs: Path, tmp_path: Path) -> None:
    run = next(iter(finished_runs(runs)))
    record = read_record(run)
    record["audit"]["held_out_fold"] = {"fold": 7, "folds": 3}
    (tmp_path / run.name).mkdir()
    replace_record(tmp_path / run.name, record)
    with pytest.raises(ValueError, match=r"audit.held_out_fold.*must be 0 to 2"):
        StoredRun.open(tmp_path / run.name)


def test_the_grid_of_all_folds(invoke: Invoke, folder_of_squares: Callable[..., Path], tmp_path: Path) -> None:
    root = folder_of_squares(18, 6)
    words = [
        "-m",
        "data=folder",
        f"data.root={root}",
        "logger=none",
        *SMALL,
        "data.split.fold=range(3)",
        "dry_run=true",
    ]
    done = invoke(train_main, words, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 to train" in done.stdout + done.stderr
