"""Averages of networks and of views: test-time augmentation in records, ensembles of stored seeds, their tables."""

import json
import shutil
from pathlib import Path
from typing import Any

import ensemble_table
import numpy as np
import pytest
import referral_table
import sets_table
import torch
from conftest import Invoke, square_crop
from PIL import Image
from sklearn.metrics import accuracy_score, f1_score
from stored import read_record, replace_record

from cellpatch.analysis.ensembles import BOTH, ENSEMBLE, SINGLE, TURNED, averaged, ensemble_cells
from cellpatch.analysis.groups import SeedGroup, group_by_seed
from cellpatch.analysis.packed_results import pack
from cellpatch.analysis.referral import rest_curves
from cellpatch.analysis.results import read_results
from cellpatch.cli.evaluate import main as evaluate_main
from cellpatch.cli.train import main as train_main
from cellpatch.inference.restore import predict_probabilities, restore
from cellpatch.inference.turned import turned_views
from cellpatch.metrics.calibration import fit_temperature, scale
from cellpatch.metrics.scores import accuracy
from cellpatch.optics.conditions import CLEAN, Condition
from cellpatch.runs.folders import finished_runs
from cellpatch.runs.stored_run import StoredRun, require_store
from cellpatch.runs.verify import verify

STRONG = Condition("post", 1.6)
SMALL = ["model=cnn", "model.backbone.input_px=16", "model.backbone.widths=[4,8]", "adapt.batch_size=8"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crops of squares in three colours, off their centre, of ten specimens."""
    folder = tmp_path_factory.mktemp("ensembles")
    rng = np.random.default_rng(0)
    for number, name in enumerate(("red", "green", "blue")):
        for i in range(40):
            file = folder / "a" / name / f"s{i % 10}" / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            noise = rng.integers(0, 120, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(square_crop(rng, number) // 2 + noise).save(file)
    return folder


@pytest.fixture
def here(trained: Path, tmp_path: Path, invoke: Invoke) -> Path:
    """A copy with three small networks and two probes of colour in it."""
    if not (trained / "runs").exists():
        for words in (["model=colour", "seed=0,1"], [*SMALL, "trainer.max_epochs=1", "seed=0,1,2"]):
            common = ["-m", "data=folder", "data.root=a", "flag_limit=6", "logger=none", "trainer.accelerator=cpu"]
            done = invoke(train_main, [*common, *words, "optics=blur", "optics.sigma=1.6"], trained)
            assert done.returncode == 0, done.stderr
    return Path(shutil.copytree(trained, tmp_path / "here"))


def _turn(invoke: Invoke, here: Path, *words: str) -> Any:
    return invoke(evaluate_main, ["runs", "--tta", "trainer.accelerator=cpu", *words], here)


def _groups(here: Path) -> dict[str, SeedGroup]:
    return {group.coordinates.model: group for group in group_by_seed(read_results(here / "runs"))}


def test_views_are_the_eight_of_a_square() -> None:
    image = torch.arange(2 * 3 * 25.0).reshape(2, 3, 5, 5)
    views = turned_views(image)
    assert len({tuple(view.flatten().tolist()) for view in views}) == 8
    assert torch.equal(views[0], image)
    again = {tuple(each.flatten().tolist()) for view in views for each in turned_views(view)}
    assert again == {tuple(view.flatten().tolist()) for view in views}, "turned views turn into each other"


def test_turned_predictions_are_means_over_turned_crops(
    invoke: Invoke, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = _turn(invoke, here, "optics=blur", "optics.sigma=1.6", "optics.kind=post")
    assert done.returncode == 0, done.stderr
    assert "test-time augmentation, post 1.6: macro-F1 " in done.stdout
    monkeypatch.chdir(here)
    assert verify(Path("runs")) == []
    for folder in finished_runs(Path("runs")):
        run = StoredRun.open(folder)
        assert run.record.turned is not None
        assert (run.record.turned.views, set(run.turned_predictions)) == (8, {CLEAN, STRONG})
        rows, labels, probabilities = run.turned_predictions[CLEAN]
        if run.record.settings.model.name == "colour":  # it sees colours alone, whichever way a cell is turned
            np.testing.assert_allclose(probabilities, run.predictions[CLEAN].probabilities, atol=1e-5)
            continue
        restored = restore(folder)
        store = require_store(run.record)
        row_of = {name: i for i, name in enumerate(store.cells["cell_id"])}
        crops = store.crops(np.array([row_of[name] for name in rows["cell_id"]]))
        views = [np.rot90(each, k, (1, 2)).copy() for each in (crops, crops[:, :, ::-1]) for k in range(4)]
        expected = np.mean([predict_probabilities(restored.network, view) for view in views], axis=0)
        np.testing.assert_allclose(probabilities, expected, atol=1e-5)
        assert abs(probabilities - run.predictions[CLEAN].probabilities).max() > 1e-4
        stated = run.record.turned.metrics[0].scores
        assert stated.accuracy == pytest.approx(accuracy_score(labels, expected.argmax(axis=1)))


def test_what_is_there_is_not_predicted_again(invoke: Invoke, here: Path) -> None:
    _turn(invoke, here)
    run = next(iter(finished_runs(here / "runs")))
    first = StoredRun.open(run).turned_predictions
    assert [*first] == [CLEAN]
    assert "has test-time augmentation under these conditions" in _turn(invoke, here).stderr
    assert [file.name for file in run.glob("turned-*")] == ["turned-1.parquet"]
    _turn(invoke, here, "optics=blur", "optics.sigma=1.6")
    assert [file.name for file in run.glob("turned-*")] == ["turned-2.parquet"]
    then = StoredRun.open(run).turned_predictions
    assert {*then} == {CLEAN, STRONG, Condition("pre", 1.6)}
    np.testing.assert_array_equal(then[CLEAN].probabilities, first[CLEAN].probabilities)
    assert verify(here / "runs") == []


def test_an_ensemble_is_the_mean_of_scaled_probabilities(invoke: Invoke, here: Path) -> None:
    _turn(invoke, here)
    group = _groups(here)["cnn"]
    runs = [StoredRun.open(run.folder) for run in group.runs if run.folder is not None]

    def mean(of: str) -> np.ndarray:
        return np.mean([scale(getattr(run, of)[CLEAN].probabilities, run.record.temperature) for run in runs], axis=0)

    temperature = fit_temperature(runs[0].validation[CLEAN].labels, mean("validation"))
    labels = runs[0].predictions[CLEAN].labels
    np.testing.assert_allclose(ensemble_cells(group).probabilities, scale(mean("predictions"), temperature))
    found = {each.by: each for each in averaged(group)}
    assert {name: each.passes for name, each in found.items()} == {SINGLE: 1, TURNED: 8, ENSEMBLE: 3, BOTH: 24}
    for name, of in ((ENSEMBLE, "predictions"), (BOTH, "turned_predictions")):
        expected = f1_score(labels, mean(of).argmax(axis=1), average="macro")
        assert found[name].macro_f1.mean == pytest.approx(expected)
        assert found[name].change.mean == pytest.approx(expected - found[SINGLE].macro_f1.mean)
        assert len(found[name].change.values) == 1, "one ensemble: no interval over others"
    turned = [run.record.turned for run in runs if run.record.turned is not None]
    assert found[TURNED].macro_f1.mean == pytest.approx(np.mean([each.metrics[0].scores.macro_f1 for each in turned]))
    assert found[TURNED].ece == pytest.approx(np.mean([each.metrics[0].scores.ece_scaled for each in turned]))
    assert found[SINGLE].change.mean == 0


def test_tables_of_folders_and_of_packed_runs(invoke: Invoke, here: Path) -> None:
    with pytest.raises(ValueError, match="no group has averages: an ensemble needs two seeds"):
        ensemble_table.tables(group_by_seed(read_results(next(iter(finished_runs(here / "runs"))))))
    _turn(invoke, here)
    groups = list(_groups(here).values())
    [table] = ensemble_table.tables(groups)
    clean = table.shown[table.shown["cells"] == "clean"]
    assert list(clean["by"]) == 2 * [SINGLE, TURNED, ENSEMBLE, BOTH]
    assert list(table.shown["by"][table.shown["cells"] == "post 1.6"]) == 2 * [SINGLE, ENSEMBLE], (
        "clean alone is turned"
    )
    mmac = [float(each) for each in clean["MMAC"]]
    assert mmac[:4] == pytest.approx([mmac[0], 8 * mmac[0], 3 * mmac[0], 24 * mmac[0]], rel=1e-3)
    assert {"clean", "post 1.6"} == set(referral_table.tables(groups)[0].shown["cells"])
    pack(read_results(here / "runs"), here / "runs.parquet")
    packed = group_by_seed(read_results(here / "runs.parquet"))
    [of_packed] = ensemble_table.tables(packed)
    assert list(of_packed.shown["by"]) == 2 * [SINGLE, TURNED, SINGLE]
    kept = table.shown[table.shown["by"].isin([SINGLE, TURNED])]
    assert of_packed.shown["macro-F1"].tolist() == kept["macro-F1"].tolist()
    for module in (sets_table, referral_table):
        with pytest.raises(ValueError, match="packed runs hold counts of cells, not their probabilities"):
            module.tables(packed)
    with pytest.raises(ValueError, match="sets of 90 % need 9 validation specimens, but .* has 2"):
        sets_table.tables(groups)


def test_the_curve_of_the_rest_begins_with_all_cells(here: Path) -> None:
    group = _groups(here)["cnn"]
    [(_, _, curve)] = rest_curves(group, [(accuracy, CLEAN)])
    assert curve[0.0].summary() == group.estimate(CLEAN, accuracy).summary()
    at_80 = [run.record.clean.accuracy_at_80 for run in group.runs]
    np.testing.assert_allclose(curve[0.2].values, at_80)


def test_numbers_are_printed(invoke: Invoke, here: Path) -> None:
    done = invoke(evaluate_main, ["runs", "--ensemble", "--sets", "--level", "0.5", "--referral"], here)
    assert done.returncode == 0, done.stderr
    assert "folder, cnn, scratch, 16 px, 6, clean: ensemble: macro-F1 " in done.stdout
    assert ", 3 passes, " in done.stdout
    assert "sets of 50 % by specimen and class: coverage " in done.stdout
    assert "of the cells for accuracy 0.95 of the rest" in done.stdout
    assert not list((here / "runs").glob("*/turned-*"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sets", "data.root=a"], "settings for the runs' own cells must be left out, but got data.root=a"),
        (["--tta", "model=cnn"], "must be of optics and trainer.accelerator, with --tta, but got model=cnn"),
        (["--tta", "--classes", "none.yaml"], "but got --classes"),
        (["--sets", "--level", "1"], "--level must be between 0 and 1, but got 1"),
        (["--sets", "--level", "nan"], "--level must be between 0 and 1, but got nan"),
        (["--sets"], "sets of 90 % need 9 validation specimens"),
        (["--tta", "optics=blur", "optics.sigma=0.8"], "the run was not evaluated under post 0.8"),
        (["--tta", "optics=faint"], "faint"),
    ],
)
def test_what_is_refused(invoke: Invoke, here: Path, words: list[str], message: str) -> None:
    done = invoke(evaluate_main, ["runs", *words], here)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((here / "runs").glob("*/turned-*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file": "weights.safetensors.old"}, "turned: file must be one of files"),
        ({"metrics": []}, "turned: metrics must have clean cells"),
        ({"metrics": [3]}, "turned.metrics"),
        ({"views": "many"}, "turned.views"),
    ],
)
def test_a_records_turned_scores_are_checked(invoke: Invoke, here: Path, change: dict[str, Any], message: str) -> None:
    _turn(invoke, here)
    run = next(iter(finished_runs(here / "runs")))
    record = json.loads(json.dumps(read_record(run)))
    record["turned"] |= change
    replace_record(run, record)
    with pytest.raises(ValueError, match=message):
        StoredRun.open(run)


def test_changed_scores_are_found(invoke: Invoke, here: Path) -> None:
    _turn(invoke, here)
    run = next(iter(finished_runs(here / "runs")))
    record = json.loads(json.dumps(read_record(run)))
    record["turned"]["metrics"][0]["nll"] += 0.1
    replace_record(run, record)
    assert any("nll at none 0 of turned cells differs" in problem for problem in verify(here / "runs"))
