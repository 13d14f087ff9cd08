"""Runs of pretrained models, with the real weights that install as a package."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import config_of
from stored import read_predictions, read_record, replace_record

from cellpatch.analysis.blur import summarise_blur
from cellpatch.analysis.groups import group_by_seed
from cellpatch.analysis.results import read_results
from cellpatch.config.assemble import assemble
from cellpatch.config.schema import compose_config
from cellpatch.data.dataset import find_store, open_dataset, open_store
from cellpatch.data.store.reader import CellStore
from cellpatch.inference.export import export
from cellpatch.inference.restore import restore
from cellpatch.metrics.classification import score_predictions
from cellpatch.models.spec import ModelSpec
from cellpatch.optics.conditions import Condition
from cellpatch.optics.operator import OpticalPath
from cellpatch.probing import feature_cache
from cellpatch.probing.probes import LinearProbe
from cellpatch.runs import identity as identity_module
from cellpatch.runs import table as table_module
from cellpatch.runs.condition_scores import ConditionScores, metrics_row
from cellpatch.sweeps.train import train

FolderMaker = Callable[..., Path]
BLUR = ["optics.kind=[pre,post]", "optics.sigma=[0.8,1.6]"]
ADAPTS = ["linear_probe", "knn", "prototypes", "ft_last", "ft_all", "lora"]


def _config(tmp_path: Path, root: Path, *overrides: str) -> Any:
    fixed = ["model=efficientnet_lite0", "model.backbone.input_px=48", "trainer.max_epochs=2"]
    return config_of(tmp_path, root, *fixed, *overrides)


def _store(record: dict[str, Any]) -> CellStore:
    store = find_store(Path(record["config"]["data"]["loading"]["store_dir"]), record["data"]["fingerprint"])
    assert store is not None
    return store


def _weights_file(*overrides: str) -> Path:
    weights = assemble(compose_config(["model=efficientnet_lite0", *overrides])).model.weights
    assert weights is not None
    return weights.locate()


def _records(tmp_path: Path) -> list[tuple[Path, dict[str, Any]]]:
    return [(file.parent, read_record(file.parent)) for file in sorted((tmp_path / "runs").glob("*/record.json"))]


@pytest.mark.long
@pytest.mark.parametrize("adapt", ADAPTS)
def test_a_stored_run_gives_its_predictions_again(tmp_path: Path, folder_of_squares: FolderMaker, adapt: str) -> None:
    train(_config(tmp_path, folder_of_squares(20, 5), f"adapt={adapt}"))
    [(run, record)] = _records(tmp_path)
    assert run.name.startswith(f"efficientnet_lite0-{adapt}-folder-")
    assert len(record["weights"]) == 16
    rows, probabilities = read_predictions(run)
    store = _store(record)
    index = np.flatnonzero(store.cells["cell_id"].isin(rows["cell_id"]))
    again = restore(run).network(torch.from_numpy(store.crops(index))).softmax(1).detach().numpy()
    np.testing.assert_allclose(again, probabilities, atol=1e-4)
    size = (run / "weights.safetensors").stat().st_size
    assert size < 5e6 or adapt == "ft_all", "frozen weights are not stored again"


def test_frozen_features_distinguish_squares(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    train(_config(tmp_path, folder_of_squares(60, 10)))
    [(_, record)] = _records(tmp_path)
    assert record["metrics"][0]["macro_f1"] > 0.95
    assert record["probe"]["strength"] in record["config"]["adapt"]["l2_grid"]
    assert record["best_epoch"] is None


@pytest.mark.long
def test_frozen_batch_norm_does_not_move_in_fit(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    root = folder_of_squares(20, 5)
    for adapt in ("ft_last", "ft_all"):
        train(_config(tmp_path, root, f"adapt={adapt}"))
    for run, record in _records(tmp_path):
        network = restore(run).network
        published = _published()
        moved = {
            name
            for name, value in network.backbone.state_dict().items()
            if "running_" in name and not torch.equal(value, published[name])
        }
        whole = record["config"]["adapt"]["name"] == "ft_all"
        assert any("blocks.6." in name for name in moved)
        assert any("blocks.0." in name for name in moved) == whole


def _published() -> dict[str, torch.Tensor]:
    model = assemble(compose_config(["model=efficientnet_lite0"])).model
    return model.open(model.weights_fingerprint()).state_dict()


@pytest.mark.long
def test_one_pass_serves_limits_seeds_and_probes(
    tmp_path: Path, folder_of_squares: FolderMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder_of_squares(20, 5)
    passes = []
    compute = feature_cache.FeatureCache._compute
    monkeypatch.setattr(feature_cache.FeatureCache, "_compute", lambda *a: (passes.append(1), compute(*a)))
    for adapt in ("linear_probe", "knn", "prototypes"):
        for override in ("flag_limit=4", "flag_limit=8", "seed=1"):
            train(_config(tmp_path, root, f"adapt={adapt}", override))
    assert len(_records(tmp_path)) == 9
    assert len(passes) == 1
    priors = {record["config"]["adapt"]["name"]: record["prior"]["name"] for _, record in _records(tmp_path)}
    assert priors == {"linear_probe": "training", "knn": "training", "prototypes": "uniform"}
    table = table_module.runs_table(tmp_path / "runs")
    assert dict(table[["adapt", "prior"]].to_numpy().tolist()) == priors
    train(_config(tmp_path, root, "model.backbone.input_px=64"))
    train(_config(tmp_path, root, "optics.via_px=null"))
    train(_config(tmp_path, root, "optics.resize=bicubic"))
    assert len(passes) == 4, "another input side or optics is another pass"
    train(_config(tmp_path, root, "data.name=other", "seed=2"))
    label = root / "red" / "specimen0"
    label.rename(root / "green" / "specimen0_was_red")  # one specimen's labels are corrected
    train(_config(tmp_path, root, "seed=3"))
    assert len(passes) == 5, "another name is none; other labels in another order of cells are"
    published = _weights_file()
    other = torch.load(published, weights_only=True)
    other["_conv_stem.weight"] += 1e-3
    torch.save(other, tmp_path / "other.pth")
    train(_config(tmp_path, root, f"model.weights.file={tmp_path / 'other.pth'}", "model.weights.sha256=null"))
    assert len(passes) == 6, "other weights are another pass"


@pytest.mark.long
def test_the_very_same_cells_are_fitted_once(
    tmp_path: Path, folder_of_squares: FolderMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder_of_squares(20, 5)
    fits = []
    fit = LinearProbe.fit
    monkeypatch.setattr(LinearProbe, "fit", lambda *a: (fits.append(1), fit(*a))[1])
    for override in ("seed=0", "seed=1", "flag_limit=2"):
        train(_config(tmp_path, root, "adapt=linear_probe", "flag_limit=1000", override))
    assert len(fits) == 2, "a limit above all classes takes all cells, whatever the seed"
    records = [record for _, record in _records(tmp_path)]
    one, other, few = sorted(records, key=lambda record: -record["config"]["flag_limit"])
    assert one["probe"] == other["probe"] != few["probe"]
    assert one["seconds"]["train"] == other["seconds"]["train"] > 0
    assert one["metrics"] == other["metrics"]
    train(_config(tmp_path, root, "adapt=linear_probe", "flag_limit=1000", "adapt.path_steps=11"))
    assert len(fits) == 3, "another setting is another fit"


def test_augmented_views_join_the_training_cells(
    tmp_path: Path, folder_of_squares: FolderMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder_of_squares(20, 5)
    fitted = []
    fit = LinearProbe.fit
    monkeypatch.setattr(LinearProbe, "fit", lambda *a: (fitted.append(a[1]), fit(*a))[1])
    train(_config(tmp_path, root))
    train(_config(tmp_path, root, "adapt.augmented_copies=2"))
    (cells, labels), (viewed, their_labels) = fitted
    assert len(labels) > 10
    np.testing.assert_array_equal(their_labels, labels.repeat(3))
    np.testing.assert_array_equal(viewed[: len(cells)], cells)
    away = torch.cdist(viewed, cells).view(3, len(cells), len(cells))
    own = away.diagonal(dim1=1, dim2=2).mean(dim=1)
    assert (own[1:] < away[1:].mean(dim=(1, 2))).all(), "each copy lies nearer to its cell than to others"
    entries = sorted((tmp_path / "embeddings").glob("[!.]*/features.npy"))
    assert len(entries) == 3
    assert len({file.read_bytes() for file in entries}) == 3
    heads = {(run / "weights.safetensors").read_bytes() for run, _ in _records(tmp_path)}
    assert len(heads) == 2


def test_seeds_draw_other_annotations_of_the_same_split(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    root = folder_of_squares(40, 8)
    splits = {}
    for seed in (0, 1):
        data = assemble(_config(tmp_path, root, f"seed={seed}", "flag_limit=5")).data
        splits[seed] = open_dataset(open_store(data), data.split, 5, seed).split
    np.testing.assert_array_equal(splits[0].test, splits[1].test)
    np.testing.assert_array_equal(splits[0].validation, splits[1].validation)
    assert set(splits[0].train) != set(splits[1].train)
    assert splits[0].audit.cells == splits[1].audit.cells


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["model=cnn", "adapt=linear_probe"],
            "adapt=linear_probe needs a pretrained model, but model=cnn has no weights",
        ),
        (
            ["adapt=lora", "adapt.targets=[nothing]"],
            "adapt.targets must name layers of the model, but got .*nothing.*; it has ",
        ),
        (["optics.train=[0,1]"], "optics.train=.0.0, 1.0. needs gradients, but adapt=linear_probe trains on features"),
        (["adapt.augmented_copies=1", "augment=none"], "adapt.augmented_copies=1 needs augment=device"),
        (["adapt=ft_all", "adapt.layer_decay=2"], "adapt.layer_decay must be in"),
        (["+model.backbone.options.checkpoint_path=x.pth"], "options hold no .*checkpoint_path.*weights come through"),
        (["model.backbone.architecture=hf-hub:x/y"], "but got hf-hub:x/y: weights come through model.weights"),
        (
            ["model=dinov2_s", "model.backbone.input_px=56", "model.weights.file=no.safetensors"],
            "there is no file no.safetensors.*Licence: Apache-2.0",
        ),
    ],
)
def test_errors_come_before_any_work(
    tmp_path: Path, folder_of_squares: FolderMaker, overrides: list[str], message: str
) -> None:
    root = folder_of_squares(6, 3)
    with pytest.raises(ValueError, match=message):
        train(_config(tmp_path, root, *overrides))
    assert not (tmp_path / "stores").exists()
    assert not (tmp_path / "runs").exists()


def test_a_scratch_adaptation_of_published_weights_is_refused(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    scratch = ["adapt=scratch", "adapt.lr=0.1", "adapt.weight_decay=0", "adapt.warmup=0"]
    with pytest.raises(
        ValueError, match="starts from random values, but model=efficientnet_lite0 has features already"
    ):
        train(_config(tmp_path, folder_of_squares(6, 3), *scratch))


def test_restoring_needs_the_same_published_weights(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    train(_config(tmp_path, folder_of_squares(20, 5)))
    [(run, record)] = _records(tmp_path)
    published = _weights_file()
    elsewhere = tmp_path / "moved.pth"
    elsewhere.write_bytes(published.read_bytes())
    assert restore(run, elsewhere)
    state = torch.load(published, weights_only=True)
    state["_conv_stem.weight"] += 1e-3
    torch.save(state, elsewhere)
    with pytest.raises(ValueError, match="its sha256 is not"):
        restore(run, elsewhere)
    record["config"]["model"]["weights"]["sha256"] = None
    replace_record(run, record)
    with pytest.raises(ValueError, match="published weights of efficientnet_lite0 are now .*, not .* as before"):
        restore(run, elsewhere)


@pytest.mark.long
@pytest.mark.parametrize("adapt", ["linear_probe", "ft_last"])
def test_a_run_is_evaluated_after_its_published_weights_moved(
    tmp_path: Path, folder_of_squares: FolderMaker, adapt: str
) -> None:
    root = folder_of_squares(20, 5)
    old, new = tmp_path / "old.pth", tmp_path / "new.pth"
    old.write_bytes(_weights_file().read_bytes())
    train(_config(tmp_path, root, f"adapt={adapt}", f"model.weights.file={old}"))
    old.rename(new)
    train(_config(tmp_path, root, f"adapt={adapt}", f"model.weights.file={new}", *BLUR))
    [(run, record)] = _records(tmp_path)
    assert len(record["metrics"]) == 5
    with pytest.raises(ValueError, match="there is no file .*old.pth"):
        restore(run)


def test_a_run_outlives_the_folder_of_weights_that_it_was_given(
    tmp_path: Path, folder_of_squares: FolderMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder_of_squares(20, 5)
    (tmp_path / "weights").mkdir()
    monkeypatch.chdir(tmp_path)
    train(_config(tmp_path, root, "weights_dir=weights"))
    (tmp_path / "weights").rmdir()
    [(run, _)] = _records(tmp_path)
    assert restore(run)
    train(_config(tmp_path, root, *BLUR))
    [(_, record)] = _records(tmp_path)
    assert len(record["metrics"]) == 5


def test_weights_that_change_while_a_run_waits_are_reported(
    tmp_path: Path, folder_of_squares: FolderMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ModelSpec, "weights_fingerprint", lambda model: "as it was before")
    for adapt in ("linear_probe", "ft_last"):
        with pytest.raises(
            ValueError, match="published weights of efficientnet_lite0 are now .*, not as it was before"
        ):
            train(_config(tmp_path, folder_of_squares(20, 5), f"adapt={adapt}"))
    assert not list((tmp_path / "runs").glob("*/record.json"))
    assert not list((tmp_path / "embeddings").glob("*/features.npy"))


def test_identity_of_a_probe_is_of_what_it_reads(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    root = folder_of_squares(6, 3)

    def identity(*overrides: str) -> str:
        return identity_module.identity(assemble(_config(tmp_path, root, *overrides)).settings, "data", "weights")

    same = ["trainer.max_epochs=9", "augment=none", "model.recipe.lora_targets=[x]", "model.recipe.stain_gain=0.3"]
    assert {identity(override) for override in same} == {identity()}
    assert identity("adapt.augmented_copies=1") != identity("adapt.augmented_copies=1", "augment.shift_px=1")
    assert identity("adapt=ft_last") != identity("adapt=ft_last", "trainer.max_epochs=9")


@pytest.mark.long
@pytest.mark.parametrize("adapt", ["linear_probe", "ft_last"])
def test_blur_evaluates_a_run_that_exists(tmp_path: Path, folder_of_squares: FolderMaker, adapt: str) -> None:
    root = folder_of_squares(20, 5)
    train(_config(tmp_path, root, f"adapt={adapt}"))
    [(run, before)] = _records(tmp_path)
    weights = (run / "weights.safetensors").stat().st_mtime_ns
    train(_config(tmp_path, root, f"adapt={adapt}", "optics.sigma=0.8"))
    train(_config(tmp_path, root, f"adapt={adapt}", *BLUR))
    train(_config(tmp_path / "at_once", root, f"adapt={adapt}", *BLUR))
    [(run, record)] = _records(tmp_path)
    [(_, at_once)] = _records(tmp_path / "at_once")
    assert (run / "weights.safetensors").stat().st_mtime_ns == weights
    assert record["metrics"][0] == before["metrics"][0]
    assert [name for name in record["files"] if "predictions" in name] == [
        "predictions.parquet",
        "predictions-1.parquet",
        "predictions-2.parquet",
    ]
    by_condition = [{(row["kind"], row["sigma"]): row for row in found["metrics"]} for found in (record, at_once)]
    conditions = {("none", 0.0)} | {(kind, sigma) for kind in ("pre", "post") for sigma in (0.8, 1.6)}
    assert by_condition[0].keys() == by_condition[1].keys() == conditions
    for condition in conditions:
        assert by_condition[0][condition]["accuracy"] == by_condition[1][condition]["accuracy"]
    rows, probabilities = read_predictions(run)
    for (kind, sigma), stored in by_condition[0].items():
        here = ((rows["kind"] == kind) & (rows["sigma"] == sigma)).to_numpy()
        labels = np.array([record["classes"].index(label) for label in rows["label"][here]])
        scores = score_predictions(labels, probabilities[here], record["classes"], record["temperature"])
        assert metrics_row(ConditionScores(Condition(kind, sigma), scores, mirrored_cells=0)) == stored
    stated = summarise_blur(group_by_seed(read_results(tmp_path / "runs"))).set_index(["kind", "score", "what"])[
        "value"
    ]
    for (kind, sigma), row in by_condition[0].items():
        for score in ("accuracy", "macro_f1"):
            where = [("pre", score, "sigma 0"), ("post", score, "sigma 0")]
            where = where if kind == "none" else [(kind, score, f"sigma {sigma:g}")]
            assert [stated[place] for place in where] == pytest.approx([row[score]] * len(where))
    table = table_module.runs_table(tmp_path / "runs")
    assert sorted(zip(table["kind"], table["sigma"], strict=True)) == sorted(conditions)


def test_blur_of_a_probe_is_that_of_its_network(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    train(_config(tmp_path, folder_of_squares(20, 5), *BLUR))
    [(run, record)] = _records(tmp_path)
    rows, probabilities = read_predictions(run)
    here = ((rows["kind"] == "pre") & (rows["sigma"] == 1.6)).to_numpy()
    store = _store(record)
    network = restore(run).network
    network.optics = OpticalPath(store.geometry.crop_px, 0, 48, 40).under(Condition("pre", 1.6))
    index = np.flatnonzero(store.cells["cell_id"].isin(rows["cell_id"][here]))
    again = network(torch.from_numpy(store.crops(index))).softmax(1).detach().numpy()
    np.testing.assert_allclose(again, probabilities[here], atol=1e-4)


@pytest.mark.long
def test_an_evaluation_that_was_cut_off_is_made_again(
    tmp_path: Path, folder_of_squares: FolderMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder_of_squares(20, 5)
    train(_config(tmp_path, root))
    [(run, before)] = _records(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("cellpatch.runs.stored_run.seal", lambda record: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(_config(tmp_path, root, *BLUR))
    assert read_record(run) == before
    assert len(read_predictions(run)[0]) == before["metrics"][0]["n_test"]
    train(_config(tmp_path, root, *BLUR))
    assert len(read_record(run)["metrics"]) == 5
    assert not list(run.glob(".*"))


@pytest.mark.long
def test_rounded_features_are_exported_and_the_backbone_is_opened_once(
    tmp_path: Path, folder_of_squares: FolderMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    whole = ModelSpec.open
    monkeypatch.setattr(ModelSpec, "open", lambda *a: (opened.append(1), whole(*a))[1])
    train(_config(tmp_path, folder_of_squares(20, 5), "data.loading.embedding_dtype=float16", *BLUR))
    assert len(opened) == 1
    [(run, _)] = _records(tmp_path)
    assert "the run's own features were rounded to float16" in export(run, tmp_path / "out.onnx")


@pytest.mark.parametrize("name", ["weights.safetensors", "predictions.parquet"])
def test_an_altered_run_is_not_evaluated(tmp_path: Path, folder_of_squares: FolderMaker, name: str) -> None:
    root = folder_of_squares(20, 5)
    train(_config(tmp_path, root))
    [(run, _)] = _records(tmp_path)
    content = bytearray((run / name).read_bytes())
    content[-1] ^= 1
    (run / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} is missing or not as the record states"):
        train(_config(tmp_path, root, *BLUR))


def test_a_blur_too_wide_is_an_error_before_any_training(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    with pytest.raises(ValueError, match="has a kernel of 129 px, but crop and margin have only 16 px"):
        train(_config(tmp_path, folder_of_squares(20, 5), "optics.kind=pre", "optics.sigma=40"))
    assert not (tmp_path / "runs").exists()
