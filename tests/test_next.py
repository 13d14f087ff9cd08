"""Which cells to label next: the choice, its files, rounds of labelling, and what more labels are worth."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Invoke, square_crop
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import entropy as scipy_entropy

from cellpatch.analysis.results import read_results
from cellpatch.analysis.rounds import rounds_of
from cellpatch.cli.next import main as next_main
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


@pytest.mark.parametrize("strategy", STRATEGIES)
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
