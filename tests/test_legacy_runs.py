"""Runs of cellpatch 0.3.0 stay readable: every command works on them (tests/fixtures/README.md says how they were made)."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import figure3
import figure_blur
import models_table
import numpy as np
import pytest
import torch
from conftest import ROOT, config_of
from stored import read_record, replace_record

from cellpatch.analysis.groups import group_by_seed
from cellpatch.analysis.packed_results import pack
from cellpatch.analysis.results import read_results
from cellpatch.config.assemble import assemble
from cellpatch.data.dataset import open_store
from cellpatch.inference.export import export
from cellpatch.inference.predict import predict
from cellpatch.inference.restore import restore
from cellpatch.optics.conditions import CLEAN
from cellpatch.runs import identity as identity_module
from cellpatch.runs import legacy
from cellpatch.runs import table as table_module
from cellpatch.runs.folders import finished_runs
from cellpatch.runs.stored_run import StoredRun
from cellpatch.runs.table import runs_table
from cellpatch.runs.verify import verify
from cellpatch.sweeps.train import train

WRITTEN = ROOT / "tests" / "fixtures" / "runs_0_3_0"
NAMES = sorted(folder.name for folder in WRITTEN.iterdir())
COMMON = ["data.margin_px=2", "data.um_per_px=0.5", "data.licence=none", "data.synthetic=true", "flag_limit=4"]
COMMON += ["trainer.max_epochs=2"]
PRETRAINED = ["model=efficientnet_lite0", "model.backbone.input_px=32"]
SCRATCH = ["adapt.optimizer=adamw", "adapt.lr=0.001"]  # what was the default then
SETTINGS = {
    "cnn-scratch-folder-4-s0": [*SCRATCH, "model=cnn", "model.backbone.widths=[4,8]"],
    "cnn-scratch-folder-4-s1": [*SCRATCH, "model=cnn", "model.backbone.widths=[4,8]", "seed=1"],
    "efficientnet_lite0-linear_probe-folder-4-s0": [*PRETRAINED, "adapt=linear_probe"],
    "efficientnet_lite0-lora-folder-4-s0": [*PRETRAINED, "adapt=lora", "adapt.rank=1", "adapt.targets=[conv_pw]"],
}
FolderMaker = Callable[..., Path]


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    shutil.copytree(WRITTEN, tmp_path / "runs")
    return tmp_path / "runs"


def _config(tmp_path: Path, root: Path, run: str, *overrides: str) -> Any:
    return config_of(tmp_path, root, *COMMON, *SETTINGS[run.rpartition("-")[0]], *overrides)


def test_the_fixture_is_of_0_3_0_and_covers_every_way_of_training() -> None:
    assert [name.rpartition("-")[0] for name in NAMES] == sorted(SETTINGS)
    assert {read_record(WRITTEN / name)["cellpatch"] for name in NAMES} == {"0.3.0"}
    assert not any("training_code" in read_record(WRITTEN / name) for name in NAMES)


def test_they_are_verified_and_tabled() -> None:
    assert verify(WRITTEN) == []
    table = runs_table(WRITTEN)
    assert sorted(table["run"].unique()) == NAMES
    assert "training_code" not in table
    assert len(table) == 5 + 1 + 2 + 1
    assert table["macro_f1_widespread"].isna().all()
    assert set(table["classes_not_widespread"]) == {3}, "they have fewer than ten test specimens"


def test_macro_f1_over_widespread_classes_is_of_the_predictions(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_module, "WIDESPREAD", 1)
    table = runs_table(runs_dir)
    np.testing.assert_allclose(table["macro_f1_widespread"].astype(float), table["macro_f1"])
    assert set(table["classes_not_widespread"]) == {0}
    for run in read_results(runs_dir):
        present = run.confusions[CLEAN].sum(axis=2) > 0
        stored = StoredRun.open(runs_dir / run.run).specimens_by_class
        assert stored == dict(zip(run.record.classes, present.sum(axis=0).tolist(), strict=True))
    for file in runs_dir.glob("*/predictions.parquet"):
        file.unlink()
    assert runs_table(runs_dir)["macro_f1_widespread"].isna().all()


@pytest.mark.parametrize("name", NAMES)
def test_they_are_restored_and_predict_as_before(tmp_path: Path, folder_of_squares: FolderMaker, name: str) -> None:
    root = folder_of_squares(12, 4)
    store = open_store(assemble(_config(tmp_path, root, name)).data)
    restored = restore(WRITTEN / name)
    assert store.manifest.fingerprint == restored.stored.record.data.fingerprint
    rows, _, probabilities = restored.stored.predictions[CLEAN]
    index = {cell: i for i, cell in enumerate(store.cells["cell_id"])}
    crops = store.crops(np.array([index[cell] for cell in rows["cell_id"]]))
    with torch.no_grad():
        again = restored.network(torch.from_numpy(crops)).softmax(1).numpy()
    np.testing.assert_allclose(again, probabilities, atol=1e-4)  # as tests of today's own runs
    table = predict(WRITTEN / name, root).table().set_index("path").loc[rows["cell_id"]]
    shown = table[[f"p_{label}" for label in restored.classes]].to_numpy()
    np.testing.assert_allclose(shown, probabilities, atol=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_they_are_found_by_today_s_command_and_evaluated_under_more_blur(
    runs_dir: Path, tmp_path: Path, folder_of_squares: FolderMaker, name: str
) -> None:
    root = folder_of_squares(12, 4)
    weights = (runs_dir / name / "weights.safetensors").stat().st_mtime_ns
    before = StoredRun.open(runs_dir / name).record
    outcome = train(_config(tmp_path, root, name))
    assert (outcome.run, outcome.state) == (name, "exists")
    assert "trained by cellpatch 0.3.0, which kept no fingerprint" in outcome.messages[0]
    assert train(_config(tmp_path, root, name, "dry_run=true", "optics.sigma=0.8")).state == "to evaluate"
    outcome = train(_config(tmp_path, root, name, "optics.kind=[pre,post]", "optics.sigma=[0.4,0.8]"))
    assert (outcome.run, outcome.state) == (name, "evaluated")
    after = StoredRun.open(runs_dir / name).record
    assert after.metrics[: len(before.metrics)] == before.metrics
    assert {str(row.condition) for row in after.metrics} >= {"clean", "pre 0.4", "pre 0.8", "post 0.4", "post 0.8"}
    assert (runs_dir / name / "weights.safetensors").stat().st_mtime_ns == weights
    assert verify(runs_dir) == []
    assert len(finished_runs(runs_dir)) == len(NAMES)


@pytest.mark.long
@pytest.mark.parametrize("name", [NAMES[0], NAMES[2]])
def test_they_are_exported(tmp_path: Path, name: str) -> None:
    assert "random crops" in export(WRITTEN / name, tmp_path / "out.onnx")


def test_figures_and_tables_are_drawn_of_them_and_of_their_packed_form(tmp_path: Path) -> None:
    pack(read_results(WRITTEN), tmp_path / "packed.parquet")
    for source in (WRITTEN, tmp_path / "packed.parquet"):
        groups = group_by_seed(read_results(source))
        assert [len(group.seeds) for group in groups] == [2, 1, 1]
        caption = figure3.draw("folder", groups).caption
        assert "cnn" in caption or "synthetic test cells" in caption
        assert "ifferent training code" not in caption
        assert len(models_table.tables(groups)[0].shown) == 3 + 1, "and the rule"
    with pytest.raises(ValueError, match="no run was evaluated under blur"):
        figure_blur.draw("folder", [group for group in groups if group.coordinates.adapt == "lora"])


def test_a_run_with_components_that_are_gone_is_restored(tmp_path: Path) -> None:
    run = tmp_path / NAMES[0]
    shutil.copytree(WRITTEN / NAMES[0], run)
    record = read_record(run)
    record["config"]["augment"]["_target_"] = "cellpatch.augment.KorniaAugment"  # until 0.2
    record["config"]["data"]["loading"]["_target_"] = "cellpatch.data.datamodule.Loading"  # where it was
    replace_record(run, record)
    assert restore(run).network.backbone.input_px == record["config"]["model"]["backbone"]["input_px"]


def test_once_the_training_code_is_raised_they_are_other_runs(
    runs_dir: Path, tmp_path: Path, folder_of_squares: FolderMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity_module, "TRAINING_CODE", 2)
    outcome = train(_config(tmp_path, folder_of_squares(12, 4), NAMES[0]))
    assert outcome.state == "trained"
    assert outcome.run not in NAMES


@pytest.mark.long
@pytest.mark.parametrize("study", ["endonuke", "synthetic"])
def test_settings_of_packed_runs_are_translated_there_and_back(study: str) -> None:
    results = read_results(ROOT / "experiments" / "results" / f"{study}.parquet")
    for result in results:
        record = result.record
        stored = legacy.from_current(record.settings.config)
        assert stored == result.stored["config"]
        assert legacy.identity(stored, record.data.fingerprint, record.weights) == record.identity
    today = [identity_module.identity(r.record.settings, r.record.data.fingerprint, r.record.weights) for r in results]
    assert len(set(today)) == len(results)


def test_a_setting_that_0_3_0_did_not_have_loses_no_run_at_its_implicit_value(
    runs_dir: Path, tmp_path: Path, folder_of_squares: FolderMaker
) -> None:
    root = folder_of_squares(12, 4)
    outcome = train(_config(tmp_path, root, NAMES[0], "+trainer.accumulate_grad_batches=1"))
    assert (outcome.run, outcome.state) == (NAMES[0], "exists")
    assert len(finished_runs(runs_dir)) == len(NAMES)
