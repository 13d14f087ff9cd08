"""Finished runs on another cohort: its cells, its classes, its scores in records, figures and tables."""

import json
import shutil
from pathlib import Path
from typing import Any

import external_table
import figure_external
import numpy as np
import pytest
from conftest import Invoke, square_crop
from PIL import Image
from simulated_study import estimates, mixed_design, simulate
from sklearn.metrics import f1_score
from stored import read_record, replace_record

from cellpatch.analysis.estimates import independent_difference
from cellpatch.analysis.external import on_cohort, summarise_cohorts
from cellpatch.analysis.groups import group_by_seed
from cellpatch.analysis.packed_results import pack
from cellpatch.analysis.results import read_results
from cellpatch.cli.evaluate import main as evaluate_main
from cellpatch.cli.train import main as train_main
from cellpatch.figures.plotting import save
from cellpatch.metrics.scores import macro_f1
from cellpatch.optics.conditions import CLEAN, Condition
from cellpatch.runs.folders import finished_runs
from cellpatch.runs.stored_run import StoredRun
from cellpatch.runs.verify import verify

COLOURS = ("red", "green", "blue")


def _write(root: Path, names: tuple[str, ...], seed: int, specimens: int) -> None:
    """Squares of the colours in the order of COLOURS; a further name has blue ones."""
    rng = np.random.default_rng(seed)
    for number, name in enumerate(names):
        for i in range(3 * specimens):
            file = root / name / f"{root.name}{i % specimens}" / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(square_crop(rng, min(number, 2))).save(file)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with cells of two hospitals, and two probes of colour trained on those of the first."""
    folder = tmp_path_factory.mktemp("external")
    _write(folder / "a", COLOURS, 0, specimens=10)
    _write(folder / "b", ("rot", "green", "blue", "mud"), 1, specimens=4)
    (folder / "classes.yaml").write_text("rot: red\n")
    return folder


@pytest.fixture
def here(trained: Path, tmp_path: Path, invoke: Invoke) -> Path:
    """A copy with runs in it."""
    if not (trained / "runs").exists():
        words = ["-m", "data=folder", "data.root=a", "model=colour", "flag_limit=4", "seed=0,1", "logger=none"]
        done = invoke(train_main, [*words, "data.um_per_px=0.5"], trained)
        assert done.returncode == 0, done.stderr
    return Path(shutil.copytree(trained, tmp_path / "here"))


COHORT = ["data=folder", "data.root=b", "data.name=hospital_b", "data.um_per_px=0.5", "--classes", "classes.yaml"]


def _evaluate(invoke: Invoke, here: Path, *words: str) -> Any:
    return invoke(evaluate_main, ["runs", *(words or COHORT)], here)


def test_scores_of_another_hospital_join_the_record(invoke: Invoke, here: Path) -> None:
    done = _evaluate(invoke, here, *COHORT, "optics=blur", "optics.sigma=1.6")
    assert done.returncode == 0, done.stderr
    assert "hospital_b, clean: macro-F1 " in done.stdout
    assert "(36 cells of 3 classes, 4 specimens)" in done.stdout
    assert "left out, of classes that the run does not have: mud (12)" in done.stderr
    for folder in finished_runs(here / "runs"):
        run = StoredRun.open(folder)
        [cohort] = run.record.cohorts
        assert cohort.class_map == {"blue": "blue", "green": "green", "mud": None, "rot": "red"}
        assert (cohort.left_out, cohort.specimens, cohort.synthetic) == ({"mud": 12}, 4, False)
        assert (cohort.equal_crops, cohort.shared_specimens) == (0, [])
        conditions = [CLEAN, Condition("post", 1.6), Condition("pre", 1.6)]
        assert [row.condition for row in cohort.metrics] == conditions
        for row in cohort.metrics:
            _, labels, probabilities = run.cohort_predictions["hospital_b"][row.condition]
            assert row.scores.macro_f1 == pytest.approx(f1_score(labels, probabilities.argmax(1), average="macro"))
    assert verify(here / "runs") == []


def test_the_same_cohort_again_replaces_it_and_another_joins(invoke: Invoke, here: Path) -> None:
    _evaluate(invoke, here)
    first = {
        run.name: run.cohort_predictions["hospital_b"] for run in map(StoredRun.open, finished_runs(here / "runs"))
    }
    _evaluate(invoke, here)
    _evaluate(invoke, here, *(word.replace("hospital_b", "hospital_c") for word in COHORT))
    for folder in finished_runs(here / "runs"):
        run = StoredRun.open(folder)
        assert [cohort.name for cohort in run.record.cohorts] == ["hospital_b", "hospital_c"]
        assert sorted(file.name for file in folder.glob("cohort-*")) == ["cohort-2.parquet", "cohort-3.parquet"]
        again = run.cohort_predictions["hospital_b"][CLEAN].probabilities
        np.testing.assert_array_equal(again, first[run.name][CLEAN].probabilities)
    assert verify(here / "runs") == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data=folder", "data.root=a", "data.name=again", "data.um_per_px=0.5"], "these are the cells that the run was"),
        ([*COHORT[:2], "data.name=folder", *COHORT[3:]], "data.name=folder is the name of the run's own cells"),
        ([*COHORT[:3], "data.um_per_px=0.25", *COHORT[4:]], "must show the same field as the run's, 8 um, but the cohort's show 4 um"),
        (["data=folder", "data.root=b"], "data=NAME ... data.name=COHORT must state the cohort's cells"),
        ([*COHORT, "model=cnn"], "settings must be of data, optics and trainer.accelerator, but got model=cnn"),
        ([*COHORT[:-1], "none.yaml"], "--classes none.yaml must have lines of THEIR CLASS: OUR CLASS"),
        ([*COHORT[:-1], "list.yaml"], "--classes list.yaml must have lines of THEIR CLASS: OUR CLASS"),
        ([*COHORT[:-1], "theirs.yaml"], "--classes must name classes of the cohort, ['blue', 'green', 'mud', 'rot'], but has ['purple']"),
        ([*COHORT[:-1], "ours.yaml"], "--classes must lead to classes of the run, ['blue', 'green', 'red'], but has ['pink']"),
        ([*COHORT[:-1], "nothing.yaml"], "no cell of the cohort has a class of the run"),
    ],
)  # fmt: skip
def test_what_is_no_cohort(invoke: Invoke, here: Path, words: list[str], message: str) -> None:
    (here / "list.yaml").write_text("[rot, red]\n")
    (here / "theirs.yaml").write_text("purple: red\n")
    (here / "ours.yaml").write_text("rot: pink\n")
    (here / "nothing.yaml").write_text("green: null\nblue: null\n")
    done = _evaluate(invoke, here, *words)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((here / "runs").glob("*/cohort-*"))


def test_cells_of_the_study_in_a_cohort_are_counted(invoke: Invoke, here: Path) -> None:
    shutil.copytree(here / "a" / "red" / "a0", here / "b" / "rot" / "a0")
    done = _evaluate(invoke, here)
    assert "3 cells of the cohort have a crop that is in the run's own cells: scores are too high" in done.stderr
    assert "equal names: a0" in done.stderr
    [cohort] = StoredRun.open(next(iter(finished_runs(here / "runs")))).record.cohorts
    assert (cohort.equal_crops, cohort.shared_specimens) == (3, ["a0"])
    shutil.rmtree(here / "stores")
    _evaluate(invoke, here)
    [cohort] = StoredRun.open(next(iter(finished_runs(here / "runs")))).record.cohorts
    assert cohort.equal_crops is None


@pytest.mark.parametrize("packed", [False, True])
def test_table_and_figure(invoke: Invoke, here: Path, tmp_path: Path, packed: bool) -> None:
    _evaluate(invoke, here)
    results = read_results(here / "runs")
    if packed:
        pack(results, tmp_path / "runs.parquet")
        results = read_results(tmp_path / "runs.parquet")
    groups = group_by_seed(results)
    [row] = summarise_cohorts(groups).to_dict("records")
    assert (row["cohort"], row["n_cohort"], row["specimens_cohort"], row["classes"]) == ("hospital_b", 36, 4, 3)
    scores = [
        StoredRun.open(folder).record.cohorts[0].metrics[0].scores.macro_f1 for folder in finished_runs(here / "runs")
    ]
    assert row["external"] == pytest.approx(np.mean(scores))
    assert row["change"] == pytest.approx(row["external"] - row["own"])
    assert row["change_low"] <= row["change"] <= row["change_high"]
    [table] = external_table.tables(groups)
    assert list(table.shown["cohort"]) == ["hospital_b"]
    assert float(table.shown["on the cohort"][0].split()[0]) == pytest.approx(row["external"], abs=5e-4)
    assert (
        "hospital_b: 36 cells of 4 specimens, of 3 of 3 classes; taken as the same: rot as red; left out: mud (12)."
        in table.notes
    )
    drawing = figure_external.draw("folder", groups)
    assert "external cohorts (full marks)" in drawing.caption
    assert save(drawing, tmp_path)[0].stat().st_size > 5000


def test_classes_that_the_cohort_lacks_do_not_count(invoke: Invoke, here: Path) -> None:
    shutil.rmtree(here / "b" / "blue")
    _evaluate(invoke, here)
    [group] = group_by_seed(read_results(here / "runs"))
    [external] = on_cohort([group], "hospital_b").values()
    [row] = summarise_cohorts([group]).to_dict("records")
    assert row["classes"] == 2
    labels = [run.cohort_predictions["hospital_b"][CLEAN] for run in map(StoredRun.open, finished_runs(here / "runs"))]
    expected = [f1_score(one.labels, one.probabilities.argmax(1), labels=[1, 2], average="macro") for one in labels]
    assert row["external"] == pytest.approx(np.mean(expected))
    assert "(none of blue); scores are over these 2" in external_table.tables([group])[0].notes[1]
    assert external.n_specimens == 4


def test_a_cohort_is_the_same_for_all_runs(invoke: Invoke, here: Path) -> None:
    first, second = (str(folder.relative_to(here)) for folder in finished_runs(here / "runs"))
    invoke(evaluate_main, [first, *COHORT], here)
    invoke(evaluate_main, [second, *COHORT[:-2]], here)
    with pytest.raises(ValueError, match="hospital_b must be one cohort, but .* other cells or in other classes"):
        summarise_cohorts(group_by_seed(read_results(here / "runs")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file": "weights.safetensors.old"}, "file must be one of files"),
        ({"class_map": {"rot": "purple"}}, "class_map must name classes of"),
        ({"metrics": []}, "metrics must have clean cells"),
        ({"metrics": [3]}, "cohorts.0.metrics"),
        ({"specimens": "many"}, "cohorts.0.specimens"),
        ({"name": "x", "extra": 1}, None),
    ],
)
def test_a_records_cohorts_are_checked(invoke: Invoke, here: Path, change: dict[str, Any], message: str | None) -> None:
    _evaluate(invoke, here)
    run = next(iter(finished_runs(here / "runs")))
    record = json.loads(json.dumps(read_record(run)))
    record["cohorts"][0] |= change
    replace_record(run, record)
    if message is None:
        StoredRun.open(run)
        return
    with pytest.raises(ValueError, match=message):
        StoredRun.open(run)


def test_two_cohorts_of_one_name_are_refused(invoke: Invoke, here: Path) -> None:
    _evaluate(invoke, here)
    run = next(iter(finished_runs(here / "runs")))
    record = json.loads(json.dumps(read_record(run)))
    record["cohorts"] *= 2
    replace_record(run, record)
    with pytest.raises(ValueError, match="cohorts must have different names"):
        StoredRun.open(run)


def test_the_change_covers_its_true_value() -> None:
    """The same networks on specimens of two cohorts, of 15 and 40 specimens: no change is true."""
    rng = np.random.default_rng(0)
    small, large = mixed_design(15), mixed_design(40)
    inside = []
    for study in range(300):
        skill = small.skill + rng.normal(0, 0.15, (1, 3, 4))
        scores = [estimates(simulate(rng, each, skill), macro_f1, 500, study)[0] for each in (large, small)]
        change = independent_difference(scores[1], scores[0])
        low, high = change.interval()
        assert len(change.without) == 55
        inside.append(low <= 0 <= high)
    assert 0.92 < np.mean(inside) < 0.99
