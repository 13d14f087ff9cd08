"""Which cells to label next: the choice, its files, rounds of labelling, and what more labels are worth."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Invoke, run_of_squares, square_crop
from hypothesis import given, settings
from hypothesis import strategies as st
from next_rounds import Schedule, draw, label_in_rounds, summarise
from next_ways import ORACLE, WAYS, Cells
from PIL import Image
from scipy.stats import entropy as scipy_entropy
from simulated import on_cohort, restated, simulated

from cellpatch.analysis.results import read_results
from cellpatch.analysis.rounds import rounds_of
from cellpatch.analysis.run_result import RunResult
from cellpatch.analysis.scaling import power_law
from cellpatch.cli.next import main as next_main
from cellpatch.cli.next_plan import plan_in_words
from cellpatch.cli.prepare import main as prepare_main
from cellpatch.cli.train import main as train_main
from cellpatch.inference.choose_cells import (
    STRATEGIES,
    Candidates,
    by_turns,
    choose_cells,
    entropies,
    margins,
    take_spread,
)
from cellpatch.inference.unlabelled_pool import held_out_specimens
from cellpatch.probing.probes import LinearProbe
from cellpatch.runs.stored_run import StoredRun

CLASSES = ("red", "green", "blue")


def _candidates(n: int, specimens: int, seed: int) -> Candidates:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(3), n)
    names = np.array([f"cell {i}" for i in rng.permutation(n)], object)
    of = np.array([f"s{i}" for i in rng.integers(0, specimens, n)], object)
    return Candidates(names, of, probabilities, rng.normal(size=(n, 8)))


WORLDS = {"n": st.integers(1, 60), "specimens": st.integers(1, 6), "seed": st.integers(0, 20)}


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=20, deadline=None)
@given(**WORLDS, take=st.integers(1, 70))
def test_each_strategy_takes_different_cells_spread_over_specimens(
    strategy: str, n: int, specimens: int, seed: int, take: int
) -> None:
    cells = _candidates(n, specimens, seed)
    chosen = choose_cells(cells, STRATEGIES[strategy], take, np.random.default_rng(seed))
    assert len(set(chosen.tolist())) == len(chosen) == min(take, n)
    if strategy != "diverse":  # which spreads over its most uncertain cells alone
        _check_spread(cells.specimens, chosen)


def _check_spread(specimens: np.ndarray, chosen: np.ndarray) -> None:
    has, taken = (pd.Series(each).value_counts() for each in (specimens, specimens[chosen]))
    taken = taken.reindex(has.index, fill_value=0)
    most = taken.max()
    assert ((taken >= most - 1) | (taken == has)).all(), "fewer only where a specimen has no more"


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=20, deadline=None)
@given(**WORLDS, take=st.integers(1, 70), spread=st.booleans())
def test_the_order_of_the_cells_does_not_matter(
    strategy: str, n: int, specimens: int, seed: int, take: int, spread: bool
) -> None:
    cells = _candidates(n, specimens, seed)
    order = np.random.default_rng(seed + 1).permutation(n)
    first = choose_cells(cells, STRATEGIES[strategy], take, np.random.default_rng(3), spread)
    again = choose_cells(cells.take(order), STRATEGIES[strategy], take, np.random.default_rng(3), spread)
    np.testing.assert_array_equal(order[again], first)


def test_margin_and_entropy_take_the_least_certain_cells() -> None:
    cells = _candidates(200, 5, 0)
    assert cells.probabilities is not None
    top = np.sort(cells.probabilities, axis=1)
    for strategy, score in (("margin", top[:, -1] - top[:, -2]), ("entropy", -scipy_entropy(top, axis=1))):
        chosen = choose_cells(cells, STRATEGIES[strategy], 20, np.random.default_rng(0), spread=False)
        np.testing.assert_array_equal(chosen, np.argsort(score)[:20])
        of_specimen = choose_cells(cells, STRATEGIES[strategy], 5, np.random.default_rng(0))
        best = pd.Series(score).groupby(cells.specimens).idxmin()
        assert set(of_specimen) == set(best), "the least certain cell of each specimen"


def test_margins_and_entropies() -> None:
    p = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    np.testing.assert_allclose(margins(p), [1, 0, 0])
    np.testing.assert_allclose(entropies(p), [0, np.log(2), np.log(3)], atol=1e-9)


def test_diverse_takes_a_cell_of_each_cluster_of_uncertain_cells() -> None:
    rng = np.random.default_rng(0)
    place = np.repeat(np.arange(5), 8)
    features = 100.0 * np.eye(5)[place] + rng.normal(size=(40, 5))
    certain = np.full((60, 2), [0.99, 0.01])
    cells = Candidates(
        np.arange(100),
        np.zeros(100, int),
        np.concatenate([np.full((40, 2), 0.5), certain]),
        np.concatenate([features, rng.normal(size=(60, 5))]),
    )
    chosen = choose_cells(cells, STRATEGIES["diverse"], 4, np.random.default_rng(0))
    assert chosen.max() < 40
    chosen = choose_cells(cells.take(np.arange(40)), STRATEGIES["diverse"], 5, np.random.default_rng(0))
    assert sorted(place[chosen]) == [0, 1, 2, 3, 4]


def test_random_is_even() -> None:
    cells = _candidates(10, 1, 0)
    counts = np.zeros(10)
    for seed in range(2000):
        counts[choose_cells(cells, STRATEGIES["random"], 3, np.random.default_rng(seed))] += 1
    assert abs(counts / 2000 - 0.3).max() < 0.05


def test_by_turns_and_take_spread() -> None:
    cluster = np.array([0, 1, 1, 1, 0])
    np.testing.assert_array_equal(by_turns(cluster, np.array([2.0, 3, 1, 2, 1])), [2, 4, 3, 0, 1])
    specimens = np.array(["a", "a", "a", "b", "c"])
    np.testing.assert_array_equal(take_spread(np.array([2, 1, 0, 4, 3]), specimens, 4), [2, 1, 4, 3])
    np.testing.assert_array_equal(take_spread(np.array([2, 1, 0, 4, 3]), specimens, 2, spread=False), [2, 1])


def test_what_is_no_choice() -> None:
    cells = _candidates(3, 1, 0)
    with pytest.raises(ValueError, match="n must be >= 1, but got 0"):
        choose_cells(cells, STRATEGIES["random"], 0, np.random.default_rng(0))
    twice = Candidates(np.array(["a", "a"]), np.array(["s", "s"]))
    with pytest.raises(ValueError, match="names of cells must be unique"):
        choose_cells(twice, STRATEGIES["random"], 1, np.random.default_rng(0))
    nothing = Candidates(np.array([], object), np.array([], object))
    assert len(choose_cells(nothing, STRATEGIES["random"], 1, np.random.default_rng(0))) == 0


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine images of 24 squares; `truth.csv` has all of them, `labels/first.csv` few of the six training specimens."""
    folder, rng = tmp_path_factory.mktemp("next"), np.random.default_rng(0)
    (folder / "images" / "labels").mkdir(parents=True)
    rows = []
    for number in range(9):
        codes = rng.permutation(np.repeat(range(3), 8)).reshape(4, 6)
        image = np.concatenate([np.concatenate([square_crop(rng, code) for code in row], axis=1) for row in codes])
        Image.fromarray(image).save(folder / "images" / f"s{number}.png")
        split = ("test", "validation", *["train"] * 7)[number] if number else "test"
        for y, x in np.ndindex(codes.shape):
            rows.append((f"s{number}.png", 16.0 * x + 8, 16.0 * y + 8, CLASSES[codes[y, x]], f"s{number}", split))
    truth = pd.DataFrame(rows, columns=["image", "x", "y", "class", "specimen", "split"])
    first = truth[(truth["split"] != "train") | (truth.groupby(["specimen", "class"]).cumcount() < 1)]
    truth.to_csv(folder / "truth.csv", index=False)
    first.to_csv(folder / "images" / "labels" / "first.csv", index=False)
    truth.drop(columns=["class", "split"]).to_csv(folder / "images" / "all.csv", index=False)
    return folder


TRAIN = ["data=points", "data.root=images", "data.image_um_per_px=0.5", "data.field_um=8", "data.margin_um=0"]
TRAIN += ["data.synthetic=true", "model=colour", "flag_limit=1000", "logger=none"]
NEXT = ["images/all.csv", "--um-per-px", "0.5"]


@pytest.fixture
def here(study: Path, invoke: Invoke) -> Path:
    """That folder, with a run of the first labels."""
    if not (study / "first").exists():
        done = invoke(train_main, [*TRAIN, "data.points=images/labels/first.csv", "runs_dir=first"], study)
        assert done.returncode == 0, done.stderr
    return study


def _label(here: Path, proposed: pd.DataFrame) -> pd.DataFrame:
    """What an annotator adds: the true class of each place."""
    truth = pd.read_csv(here / "truth.csv")[["image", "x", "y", "class"]]
    return proposed.drop(columns="class").merge(truth, on=["image", "x", "y"], validate="one_to_one")


@pytest.mark.parametrize(
    "strategy", ["diverse", *(pytest.param(name, marks=pytest.mark.long) for name in STRATEGIES if name != "diverse")]
)
def test_labels_go_in_and_the_next_round_continues(invoke: Invoke, here: Path, strategy: str) -> None:
    """predict, choose, label by an oracle, train on more, choose again: no cell comes twice, the test stays."""
    rounds = ["first"]
    for number in (1, 2):
        out = f"{strategy}{number}"
        words = ["--n", "30", "--strategy", strategy, "--out", out, "--target", "0.999", "--seconds-per-label", "240"]
        done = invoke(next_main, [rounds[-1], *NEXT, *words, "--earlier", *rounds], here)
        assert done.returncode == 0, done.stderr
        proposed = pd.read_csv(here / out / "next.csv")
        assert len(proposed) == 30
        assert proposed["class"].isna().all()
        assert (proposed["split"] == "train").all()
        assert set(proposed["specimen"]) <= {f"s{i}" for i in range(2, 9)}, "no validation or test specimen"
        assert "48 of specimens that validate or test the run" in done.stdout
        labelled = pd.concat(
            [pd.read_csv(file) for file in (here / "images" / "labels").glob(f"{strategy}*.csv")]
            or [pd.DataFrame(columns=["image", "x", "y"])]
        )
        first = pd.read_csv(here / "images" / "labels" / "first.csv")
        places = pd.concat([first, labelled, proposed])[["image", "x", "y"]]
        assert not places.duplicated().any(), "labelled cells are recognised by their crop"
        if number == 2:
            assert "2 rounds, and a curve needs 4" in done.stdout
            assert "30 more labels (2.0 hours of labelling): not predicted; the last 30 labels brought" in done.stdout
            break
        _label(here, proposed).to_csv(here / "images" / "labels" / f"{out}.csv", index=False)
        points = f"data.points=labels/[f{strategy[0]}]*.csv"
        trained = invoke(train_main, [*TRAIN, points, f"runs_dir=runs-{strategy}"], here)
        assert trained.returncode == 0, trained.stderr
        rounds.append(f"runs-{strategy}")
    results = read_results(*(here / name for name in rounds))
    assert [result.n_train for result in results] == [21, 51]
    assert rounds_of(results).labels == [21, 51]


def test_equal_seeds_propose_equal_cells(invoke: Invoke, here: Path) -> None:
    for out, seed in (("seed0", "0"), ("again", "0"), ("seed1", "1")):
        done = invoke(next_main, ["first", *NEXT, "--n", "8", "--out", out, "--seed", seed], here)
        assert done.returncode == 0, done.stderr
    first, again, other = (pd.read_csv(here / out / "next.csv") for out in ("seed0", "again", "seed1"))
    pd.testing.assert_frame_equal(first, again)
    assert not first[["image", "x", "y"]].equals(other[["image", "x", "y"]])


def test_geojson_goes_to_qupath_and_back(invoke: Invoke, here: Path) -> None:
    """The source's ids and shapes stay, no cell has a class; labelled ones train, others are left out."""
    truth = pd.read_csv(here / "truth.csv")
    rows = truth[truth["image"] == "s5.png"].to_dict("records")
    features: list[Any] = []
    for number, row in enumerate(rows):
        x, y = row["x"], row["y"]
        ring = [[x - 3, y - 3], [x + 3, y - 3], [x + 3, y + 3], [x - 3, y + 3], [x - 3, y - 3]]
        properties: Any = {
            "objectType": "detection",
            "measurements": {"Area": 36.0},
            "classification": {"name": "cell"},
        }
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "id": f"id-{number}", "geometry": geometry, "properties": properties})
    source = here / "images" / "s5.geojson"
    source.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    words = ["images/s5.geojson", "--um-per-px", "0.5", "--n", "5", "--out", "images/round", "--strategy", "margin"]
    done = invoke(next_main, ["first", *words], here)
    assert done.returncode == 0, done.stderr
    assert "images/round/next.csv: 5 cells to label, by margin; 1 GeoJSON files" in done.stdout
    file = here / "images" / "round" / "s5.geojson"
    document = json.loads(file.read_text())
    by_id = {each["id"]: each for each in features}
    assert len(document["features"]) == 5
    for number, each in enumerate(document["features"], 1):
        assert each["geometry"] == by_id[each["id"]]["geometry"]
        assert "classification" not in each["properties"]
        measured = each["properties"]["measurements"]
        assert (measured["Area"], measured["next"]) == (36.0, number)
        assert sum(measured[f"p_{name}"] for name in CLASSES) == pytest.approx(1, abs=1e-5)
    table = pd.read_csv(here / "images" / "round" / "next.csv")
    assert list(table["cell_id"]) == [each["id"] for each in document["features"]]
    for each in document["features"][:4]:
        each["properties"]["classification"] = {"name": rows[int(each["id"].removeprefix("id-"))]["class"]}
    file.write_text(json.dumps(document))
    words = [
        "data=points",
        "data.root=images",
        "data.points=round/*.geojson",
        "data.image_um_per_px=0.5",
        "data.field_um=8",
    ]
    done = invoke(prepare_main, [*words, "data.margin_um=0", "data.name=back"], here)
    assert done.returncode == 0, done.stderr
    assert "4 cells" in done.stdout + done.stderr
    source.unlink()


def test_crops_are_proposed_by_their_paths(invoke: Invoke, tmp_path: Path) -> None:
    run = run_of_squares(tmp_path, "model=colour")
    rng = np.random.default_rng(1)
    for specimen in ("s0", "s1", "s2", "s3", "s4", "new"):
        (tmp_path / "more" / specimen).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(square_crop(rng, i)).save(tmp_path / "more" / specimen / f"{i}.png")
    labelled = next((tmp_path / "cells" / "red" / "s4").glob("*.png"))
    (tmp_path / "more" / "new" / "copy.png").write_bytes(labelled.read_bytes())
    done = invoke(next_main, [str(run), "more", "--n", "100"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no GeoJSON, for the cells are crops" in done.stdout
    table = pd.read_csv(tmp_path / "next" / "next.csv")
    assert "new/copy.png" not in set(table["path"]), "it is labelled already"
    assert {"new"} < set(table["specimen"]) < {"s0", "s1", "s2", "s3", "s4", "new"}
    assert len(table) == 3 * table["specimen"].nunique()
    assert "1 labelled already" in done.stdout
    assert all((tmp_path / "more" / path).is_file() for path in table["path"])


def test_a_split_by_cell_holds_no_specimen_out(tmp_path: Path) -> None:
    by_specimen = StoredRun.open(run_of_squares(tmp_path / "a", "model=colour"))
    assert 0 < len(held_out_specimens(by_specimen)) < 5
    assert (
        held_out_specimens(StoredRun.open(run_of_squares(tmp_path / "b", "model=colour", "data/split=by_cell")))
        == set()
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--n", "0"], "--n must be >= 1, but got 0"),
        (["--seed", "-1"], "--seed must be >= 0, but got -1"),
        (["--target", "1.5"], "--target must be a macro-F1 in (0, 1), but got 1.5"),
        (["--seconds-per-label", "0"], "--seconds-per-label must be finite and > 0, but got 0"),
        (["--out", "images"], "--out images exists: give each round a folder of its own"),
        (["images/all.csv"], "each source must be given once"),
        (["images/none.csv"], "images/none.csv"),
        (["images"], "images holds crops, cut already"),
    ],
)
def test_what_is_refused(invoke: Invoke, here: Path, words: list[str], message: str) -> None:
    done = invoke(next_main, ["first", *NEXT, *words], here)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (here / "next").exists()


def test_a_pool_without_new_cells_is_an_error(invoke: Invoke, here: Path) -> None:
    table = pd.read_csv(here / "images" / "labels" / "first.csv").drop(columns="class")
    table.to_csv(here / "images" / "labelled.csv", index=False)
    done = invoke(next_main, ["first", "images/labelled.csv", "--um-per-px", "0.5", "--out", "none"], here)
    assert done.returncode == 1
    assert "no cell is left to label: 48 of specimens that validate or test the run, 21 labelled already" in done.stderr
    assert not (here / "none").exists()


def test_without_the_store_a_warning_says_so(invoke: Invoke, here: Path) -> None:
    (here / "stores").rename(here / "elsewhere")
    try:
        done = invoke(next_main, ["first", *NEXT, "--n", "4", "--out", "unknown"], here)
    finally:
        (here / "elsewhere").rename(here / "stores")
    assert done.returncode == 0
    assert "cells that are labelled already are not recognised" in done.stderr


def _rounds(limits: tuple[int, ...]) -> list[RunResult]:
    """Runs of one network whose labels grow: each round has cells of its own."""
    results = simulated(limits, skills={("cnn", "scratch", 40): (0.1, 0.5, 0.1)}, faults=())
    return [
        restated(
            run,
            data={**run.stored["data"], "fingerprint": f"round {run.coordinates.flag_limit}"},
            config={**run.stored["config"], "flag_limit": 100_000},
        )
        for run in results
    ]


def test_a_plan_of_rounds() -> None:
    rounds = rounds_of(_rounds((256, 512, 1024, 2048)))
    assert len(rounds.groups) == 4
    assert [len(group.runs) for group in rounds.groups] == [3, 3, 3, 3]
    planner = rounds.planner
    assert planner.refusal is None
    law = planner.laws[0] if planner.laws else None
    last, best = planner.means[-1], planner.best
    target = float(last + 0.3 * (best - last))
    value, low, high = planner.needed(target)
    scores = power_law(np.asarray(law), planner.limits[0], [round(value)])
    assert scores[0] == pytest.approx(target, abs=1e-3)
    assert low < value < high
    lines = plan_in_words(rounds, target, 500, 10)
    more = value - planner.limits[-1]
    assert any(line.startswith(f"macro-F1 {target:g}: {more:.0f} more labels (") for line in lines)
    gain = planner.gain(500)
    assert gain is not None
    assert gain[1] < gain[0] < gain[2]
    assert any(
        line.startswith(f"500 more labels (83 minutes of labelling): macro-F1 {gain[0]:+.3f} (") for line in lines
    )
    assert planner.gain(10**6) is None
    assert f"macro-F1 {last - 0.01:g}: reached" in plan_in_words(rounds, float(last - 0.01), 500, None)
    assert any("not within 4 times the present labels" in line for line in plan_in_words(rounds, 0.999, 500, None))


def test_three_rounds_are_no_curve() -> None:
    lines = plan_in_words(rounds_of(_rounds((256, 512, 1024))), 0.95, 100, None)
    assert "no curve beyond" in "\n".join(lines)
    assert "3 rounds, and a curve needs 4 with different numbers of labels" in "\n".join(lines)
    assert any("how many it takes is not known" in line for line in lines)


def test_rounds_on_different_test_cells_need_a_cohort() -> None:
    runs = _rounds((256, 512))
    other = [replace(run, specimens=tuple(f"other {name}" for name in run.specimens)) for run in runs[:3]]
    with pytest.raises(ValueError, match="the runs have different test cells: state the same"):
        rounds_of([*other, *runs[3:]])
    rounds = rounds_of(on_cohort([*other, *runs[3:]]))
    assert rounds.tested_on == "the cohort far"
    assert len(rounds.groups) == 2


def test_rounds_are_of_one_method() -> None:
    with pytest.raises(ValueError, match="rounds must be of one model, adaptation, field, input side and optics"):
        rounds_of(simulated((256,), faults=()))


def _study_cells(seed: int = 0) -> Cells:
    """Three classes, one of them rare, that two features tell apart, in 12 specimens."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, 600, p=[0.6, 0.35, 0.05])
    features = np.concatenate([2.5 * np.eye(3)[labels] + rng.normal(size=(600, 3)), rng.normal(size=(600, 3))], axis=1)
    part = rng.permutation(np.repeat([0, 1, 2], [400, 100, 100]))
    specimens = np.array([f"s{part[i]}{i % 4}" for i in range(600)], object)
    return Cells(features.astype(np.float32), labels, specimens, *(np.flatnonzero(part == i) for i in range(3)), 3)


SMALL = Schedule(start=20, step=20, last=60, validation=30)
PROBE = LinearProbe(l2_grid=[1.0, 0.1, 0.01], path_steps=10, patience=3, augmented_copies=0)


@pytest.mark.parametrize("name", WAYS)
def test_labels_are_revealed_in_rounds(name: str) -> None:
    cells = _study_cells()
    confusions = label_in_rounds(cells, WAYS[name], PROBE, SMALL, 0)
    assert confusions.shape == (3, 4, 3, 3), "a matrix a round and specimen"
    np.testing.assert_array_equal(confusions.sum(axis=(1, 2, 3)), [100, 100, 100])
    reference = label_in_rounds(cells, WAYS["random"], PROBE, SMALL, 0)
    np.testing.assert_array_equal(confusions[0], reference[0], "all begin with the same labels")
    np.testing.assert_array_equal(confusions, label_in_rounds(cells, WAYS[name], PROBE, SMALL, 0))


def test_the_oracle_balances_classes() -> None:
    cells = _study_cells()
    rest = np.sort(cells.pool)
    strategy = WAYS[ORACLE].make(cells, rest[:0], rest)
    chosen = choose_cells(Candidates(rest, cells.specimens[rest]), strategy, 30, np.random.default_rng(0), spread=False)
    np.testing.assert_array_equal(np.bincount(cells.labels[rest[chosen]]), [10, 10, 10])


def test_a_strategy_that_is_random_is_not_ahead_of_it() -> None:
    """The same confusion matrices under two names: every difference is 0, and its interval too."""
    confusions = np.stack([label_in_rounds(_study_cells(), WAYS["random"], PROBE, SMALL, seed) for seed in range(3)])
    table = summarise("synthetic", {"random": confusions, "diverse, spread": confusions}, SMALL.labels)
    assert list(table["labels"].fillna(0)) == 2 * [20, 40, 60, 0]
    assert (table[["ahead", "ahead_low", "ahead_high"]] == 0).all(axis=None)
    whole = table[table["labels"].isna()].set_index("strategy")
    per_round = table[table["labels"] > 20].groupby("strategy")["macro_f1"].mean()
    np.testing.assert_allclose(whole["macro_f1"], per_round[whole.index])
    assert draw(table).caption.startswith("Labels revealed in rounds")
