"""Runs from config to record, on squares that must be learnt and on labels that cannot be."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import config_of, unaudited_split
from PIL import Image
from rich.console import Console
from sklearn.metrics import confusion_matrix
from small_models import fine_tuning
from stored import read_predictions, read_record, replace_record
from torch import nn

from cellpatch.cli import runs
from cellpatch.config.assemble import assemble
from cellpatch.data.batch_indices import BatchIndices
from cellpatch.data.datamodule import Batches, CellData
from cellpatch.data.dataset import CellDataset, find_store
from cellpatch.data.loading import Loading
from cellpatch.data.store.reader import CellStore
from cellpatch.inference.restore import restore
from cellpatch.metrics.classification import Costs, score_predictions
from cellpatch.models.backbone import trained_state
from cellpatch.models.cnn import CNN
from cellpatch.models.network import Network
from cellpatch.optics.conditions import CLEAN, Condition
from cellpatch.optics.operator import OpticalPath, RandomOptics, to_pixels
from cellpatch.runs import identity as identity_module
from cellpatch.runs import locks, runner, table
from cellpatch.runs.condition_scores import ConditionScores, metrics_row
from cellpatch.runs.stored_run import StoredRun
from cellpatch.runs.verify import mismatched_metrics, verify
from cellpatch.sweeps import status
from cellpatch.sweeps.train import train
from cellpatch.training.adaptation import Scratch
from cellpatch.training.lightning_module import Classifier, TrainingInput
from cellpatch.training.objective import ObjectiveLoss
from cellpatch.training.optimizers import cosine_with_warmup

FolderMaker = Callable[..., Path]
SMALL_CNN = ["model=cnn", "model.backbone.input_px=16", "model.backbone.widths=[8,16]", "model.recipe.lr=0.01"]
SMALL_CNN += ["adapt.optimizer=adamw"]
SMALL_VIT = [
    "model=customvit_s",
    "model.backbone.input_px=16",
    "model.backbone.token_px=4",
    "model.backbone.stem_width=8",
]
SMALL_VIT += ["model.backbone.dim=32", "model.backbone.depth=2", "model.backbone.heads=2", "model.recipe.lr=0.003"]
SMALL_VIT += [
    "model.backbone.stem=single",
    "model.backbone.drop_path=0.1",
    "model.recipe.weight_decay=0.01",
    "model.recipe.warmup=0.2",
]
SMALL_VIT += ["adapt.optimizer=adamw", "model.recipe.stain_gain=0.2", "model.recipe.stain_offset=0.1"]

SCHEDULE = fine_tuning(lr=1e-3, weight_decay=0.0, warmup=0.1, batch_size=8, average_over=1)


def _config(tmp_path: Path, root: Path, *overrides: str) -> Any:
    fixed = ["adapt.batch_size=32", "augment.stain_gain=0", "augment.stain_offset=0"]
    return config_of(tmp_path, root, *fixed, *overrides)


def _train(tmp_path: Path, root: Path, *overrides: str) -> tuple[Path, dict[str, Any]]:
    run = tmp_path / "runs" / train(_config(tmp_path, root, *overrides)).run
    return run, read_record(run)


@pytest.mark.long
@pytest.mark.parametrize("model", [SMALL_CNN, SMALL_VIT], ids=["cnn", "customvit"])
def test_a_bright_square_is_learnt_to_one(tmp_path: Path, folder_of_squares: FolderMaker, model: list[str]) -> None:
    _, record = _train(tmp_path, folder_of_squares(100, 10), *model, "trainer.max_epochs=25")
    assert record["metrics"][0]["macro_f1"] == 1.0
    assert record["metrics"][0]["accuracy"] == 1.0
    assert record["best_epoch"] == record["epochs"] - 1, "the latest of equal epochs is kept"


@pytest.mark.long
def test_shuffled_labels_stay_at_chance(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    root = folder_of_squares(250, 25)
    files = sorted(root.rglob("*.png"))
    crops = [np.asarray(Image.open(file)) for file in files]
    for file, i in zip(files, np.random.default_rng(5).permutation(len(files)), strict=True):
        Image.fromarray(crops[i]).save(file)
    _, record = _train(tmp_path, root, *SMALL_CNN, "trainer.max_epochs=5")
    n = record["metrics"][0]["n_test"]
    assert abs(record["metrics"][0]["accuracy"] - 1 / 3) < 4 * np.sqrt(2 / 9 / n)


@pytest.fixture
def finished(tmp_path: Path, folder_of_squares: FolderMaker) -> tuple[Path, dict[str, Any], Path]:
    root = folder_of_squares(20, 5)
    run, record = _train(tmp_path, root, *SMALL_CNN, "trainer.max_epochs=2", "flag_limit=8")
    return run, record, root


def test_record_says_what_was_done(finished: tuple[Path, dict[str, Any], Path], tmp_path: Path) -> None:
    run, record, _ = finished
    assert run.name == f"cnn-scratch-folder-8-s0-{record['identity']}"
    files = ["predictions.parquet", "record.json", "validation.parquet", "weights.safetensors"]
    assert sorted(file.name for file in run.iterdir()) == files
    assert record["counts"]["train"] == {"blue": 8, "green": 8, "red": 8}
    assert record["config"]["model"]["backbone"]["widths"] == [8, 16]
    assert record["data"]["source"]["synthetic"] is False
    assert record["audit"]["specimens_in_two_parts"] == 0
    assert set(record["versions"]) >= {"torch", "timm", "python"}
    assert record["hardware"]["cores"] >= 1
    assert 0 <= record["best_epoch"] < record["epochs"] == 2
    assert not [f for f in (tmp_path / "runs").iterdir() if f.suffix == ".tmp"]


def test_stored_predictions_and_weights_give_the_stored_metrics(finished: tuple[Path, dict[str, Any], Path]) -> None:
    run, record, _ = finished
    rows, probabilities = read_predictions(run)
    labels = np.array([record["classes"].index(label) for label in rows["label"]])
    scores = score_predictions(labels, probabilities, record["classes"], record["temperature"])
    assert metrics_row(ConditionScores(CLEAN, scores, mirrored_cells=0)) == record["metrics"][0]
    store = find_store(Path(record["config"]["data"]["loading"]["store_dir"]), record["data"]["fingerprint"])
    assert store is not None
    cells = store.cells.set_index("cell_id", drop=False)
    assert (cells.loc[rows["cell_id"], "class"].astype(str).to_numpy() == rows["label"].astype(str)).all()
    index = np.flatnonzero(store.cells["cell_id"].isin(rows["cell_id"]))
    again = restore(run).network(torch.from_numpy(store.crops(index))).softmax(1).detach().numpy()
    np.testing.assert_allclose(again, probabilities, atol=1e-5)


def test_a_run_that_exists_is_not_trained_again(
    finished: tuple[Path, dict[str, Any], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, _, root = finished
    before = (run / "record.json").stat().st_mtime_ns
    other = [*SMALL_CNN, "trainer.max_epochs=2", "flag_limit=8", "data.name=other"]
    _train(tmp_path, root, *other)
    assert (run / "record.json").stat().st_mtime_ns == before
    assert len(table.runs_table(tmp_path / "runs")) == 1
    assert "stores holds the same cells as data.name=folder: data.name=other prepares a second copy" in caplog.text
    assert f"{run.name} is of the same cells, named data.name=folder: it keeps this name" in caplog.text
    caplog.clear()
    _train(tmp_path, root, *other)
    assert "a second copy" not in caplog.text, "it is there now"


def test_the_same_run_twice_is_the_same(finished: tuple[Path, dict[str, Any], Path], tmp_path: Path) -> None:
    run, _, root = finished
    again, _ = _train(tmp_path / "second", root, *SMALL_CNN, "trainer.max_epochs=2", "flag_limit=8")
    assert again.name == run.name
    for file in ("weights.safetensors", "predictions.parquet"):
        assert (again / file).read_bytes() == (run / file).read_bytes()


@pytest.mark.long
def test_identity_is_of_what_is_trained(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    root = folder_of_squares(6, 3)

    def identity(*overrides: str) -> str:
        return identity_module.identity(assemble(_config(tmp_path, root, *overrides)).settings, "data", None)

    same = ["runs_dir=elsewhere", "data.name=x", "data.loading.workers=5", "trainer.enable_progress_bar=false"]
    same += ["optics.kind=defocus", "optics.sigma=1.6", "optics.unit=um"]
    assert {identity(override) for override in same} == {identity()}
    others = [
        "seed=1",
        "flag_limit=7",
        "model=cnn",
        "adapt.lr=0.1",
        "adapt.batch_size=9",
        "data.split.seed=3",
        "trainer.max_epochs=3",
        "optics.via_px=null",
        "optics.resize=area",
        "optics.train=[0,1]",
    ]
    others += ["augment.shift_px=1", "model.recipe.lr=0.5"]
    assert len({identity(override) for override in others} | {identity()}) == len(others) + 1
    assert identity("optics.train=[0,1]") != identity("optics.train=[0,1]", "optics.train_kind=[pre]")
    blurred = ["optics.train=[0,1]"]
    same = {identity(*blurred, other) for other in ("optics.kind=defocus", "optics.train_kind=[post,pre]")}
    assert same == {identity(*blurred)}
    settings = assemble(_config(tmp_path, root)).settings
    assert identity_module.identity(settings, "other data", None) != identity()
    assert identity_module.identity(settings, "data", "weights") != identity()
    assert identity_module.identity(settings, "data", None, code=2) != identity()


def test_training_with_blur_is_a_run_of_its_own_and_its_network_is_not_blurred(
    tmp_path: Path, folder_of_squares: FolderMaker
) -> None:
    root = folder_of_squares(20, 5)
    (sharp, _), (run, record) = (
        _train(tmp_path, root, *SMALL_CNN, "trainer.max_epochs=2", train)
        for train in ("optics.train=null", "optics.train=[0,4]")
    )
    assert sharp != run
    assert [row["kind"] for row in record["metrics"]] == ["none"]
    assert (sharp / "weights.safetensors").read_bytes() != (run / "weights.safetensors").read_bytes()
    assert torch.equal(restore(run).network.optics.operator, restore(sharp).network.optics.operator)


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
def test_a_training_step_sees_the_drawn_blur() -> None:
    network = Network(CNN(8, [4], [0.5] * 3, [0.5] * 3), OpticalPath(8, 3, 8).under(), nn.Linear(4, 2)).eval()
    blurred = OpticalPath(8, 3, 8).under(Condition("post", 4.0))
    classifier = Classifier(
        network, [1, 1], Scratch(**SCHEDULE), {}, TrainingInput(None, RandomOptics([blurred]))
    ).eval()
    crops = torch.randint(0, 256, (6, 14, 14, 3), dtype=torch.uint8)
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    loss = classifier.training_step((crops, labels, labels), 0)
    seen = network.classify(to_pixels(crops), blurred)
    torch.testing.assert_close(loss, nn.functional.cross_entropy(seen, labels))
    assert not torch.allclose(loss, nn.functional.cross_entropy(network(crops), labels))


def test_every_kind_is_another_image(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    kinds = ["pre", "post", "defocus", "motion"]
    own = [f"optics.kind=[{','.join(kinds)}]", "optics.sigma=0.4", "optics.unit=um", "data.um_per_px=0.25"]
    run, record = _train(tmp_path, folder_of_squares(20, 5), *SMALL_CNN, "trainer.max_epochs=2", *own)
    assert sorted({(row["kind"], row["sigma"]) for row in record["metrics"]}) == [
        ("defocus", 4.0),
        ("motion", 4.0),
        ("none", 0.0),
        ("post", 4.0),
        ("pre", 4.0),
    ]
    rows, probabilities = read_predictions(run)
    of_kind = [probabilities[rows["kind"] == kind] for kind in ("none", *kinds)]
    for i, one in enumerate(of_kind):
        assert all(not np.allclose(one, other, atol=1e-6) for other in of_kind[:i])


def test_a_failed_run_leaves_its_stack_alone(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    root = folder_of_squares(6, 3)
    with pytest.raises(ValueError, match="token_px must be > 1 and divide input_px"):
        _train(tmp_path, root, "model=customvit_s", "model.backbone.token_px=7")
    assert not (tmp_path / "runs").exists()
    with pytest.raises(ValueError, match="needs at least 3 specimens"):
        _train(tmp_path, folder_of_squares(6, 2, name="few"), *SMALL_CNN)
    assert [file.name for file in (tmp_path / "runs").iterdir() if file.suffix != ".lock"] == [".failed"]
    [stack] = (tmp_path / "runs" / ".failed").iterdir()
    assert "needs at least 3 specimens" in stack.read_text()


# What these short runs gave when they were written down (torch 2 on a CPU, one thread or two): train and validation loss of each
# epoch. Sums in another order move the last digits; anything more is a change of what training does. Those without
# augmentation have stood since before it drew its numbers in another order.
GOLDEN_OF = 1  # the TRAINING_CODE that these are of
GOLDEN = {
    ("cnn", "device"): [[1.0986, 1.1075], [0.9592, 1.0858], [0.7716, 1.0739]],
    ("cnn", "none"): [[1.0991, 1.1084], [0.8861, 1.0715], [0.7063, 1.0391]],
    ("customvit_s", "device"): [[1.2065, 1.3344], [1.2044, 1.1751], [0.9642, 1.1447]],
    ("customvit_s", "none"): [[1.2099, 1.3041], [1.0453, 1.0332], [0.7782, 0.9723]],
}


@pytest.mark.parametrize(("model", "augment"), GOLDEN)
def test_losses_are_what_they_were(
    tmp_path: Path, folder_of_squares: FolderMaker, caplog: pytest.LogCaptureFixture, model: str, augment: str
) -> None:
    with caplog.at_level("INFO"):
        _train_golden(tmp_path, folder_of_squares(20, 5), model, augment)
    np.testing.assert_allclose(_losses(caplog.text), GOLDEN[model, augment], atol=5e-3)


# Muon's products of matrices are in 16 bits, so other processors may differ more.
GOLDEN_WITH_MUON = {
    "cnn": [[1.0991, 1.1119], [1.0234, 1.1083], [0.9360, 1.1054]],
    "customvit_s": [[1.4205, 1.1678], [1.1719, 1.1213], [0.9016, 1.1287]],
}


@pytest.mark.parametrize("model", GOLDEN_WITH_MUON)
def test_losses_with_muon_are_what_they_were(
    tmp_path: Path, folder_of_squares: FolderMaker, caplog: pytest.LogCaptureFixture, model: str
) -> None:
    today = ["adapt.optimizer=muon", *(["model.backbone.stem=staged"] if model == "customvit_s" else [])]
    with caplog.at_level("INFO"):
        _train_golden(tmp_path, folder_of_squares(20, 5), model, "none", *today)
    np.testing.assert_allclose(_losses(caplog.text), GOLDEN_WITH_MUON[model], atol=0.02)


def test_16_bits_on_a_cpu_train_nearly_the_same(
    tmp_path: Path, folder_of_squares: FolderMaker, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        _train_golden(tmp_path, folder_of_squares(20, 5), "customvit_s", "none", "trainer.precision=bf16-mixed")
    np.testing.assert_allclose(_losses(caplog.text), GOLDEN["customvit_s", "none"], atol=0.05)
    [file] = (tmp_path / "runs").glob("*/record.json")
    assert read_record(file.parent)["precision"] == "bf16-mixed"


def _train_golden(tmp_path: Path, root: Path, model: str, augment: str, *overrides: str) -> None:
    small = SMALL_CNN if model == "cnn" else SMALL_VIT
    train(config_of(tmp_path, root, *small, "trainer.max_epochs=3", f"augment={augment}", *overrides))


def _losses(output: str) -> list[list[float]]:
    return [[float(part) for part in pair] for pair in re.findall(r"train_loss ([\d.]+) +val_loss ([\d.]+)", output)]


def test_the_same_run_twice_is_the_same_to_the_last_bit(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    root = folder_of_squares(20, 5)
    twice = [_train(tmp_path / name, root, *SMALL_CNN, "trainer.max_epochs=2")[0] for name in ("one", "other")]
    for file in ("weights.safetensors", "predictions.parquet"):
        assert (twice[0] / file).read_bytes() == (twice[1] / file).read_bytes()


def test_workers_do_not_change_a_run(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    root = folder_of_squares(20, 5)
    weights = []
    for workers in ("0", "2"):
        settings = ["augment=albumentations", f"data.loading.workers={workers}", "trainer.max_epochs=1"]
        settings += ["augment.stain_gain=0.2", "augment.stain_offset=0.1"]
        weights.append(
            (_train(tmp_path / workers, root, *SMALL_CNN, *settings)[0] / "weights.safetensors").read_bytes()
        )
    assert weights[0] == weights[1]


def test_albumentations_balanced_weights_and_no_residence(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    _, record = _train(
        tmp_path,
        folder_of_squares(20, 5),
        *SMALL_CNN,
        "augment=albumentations",
        "adapt.balance=class_weights",
        "adapt.label_smoothing=0.1",
        "data.loading.resident_gib=0",
        "data.loading.workers=1",
        "trainer.max_epochs=2",
    )
    assert record["epochs"] == 2


def test_resident_or_mapped_gives_the_same_run(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    root = folder_of_squares(20, 5)
    weights = [
        (_train(tmp_path / size, root, *SMALL_CNN, "trainer.max_epochs=1", f"data.loading.resident_gib={size}")[0])
        for size in ("0", "4")
    ]
    files = [(run / "weights.safetensors").read_bytes() for run in weights]
    assert files[0] == files[1]


def test_a_class_can_be_dropped(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    _, record = _train(
        tmp_path, folder_of_squares(20, 5), *SMALL_CNN, "data.split.drop_classes=[red]", "trainer.max_epochs=1"
    )
    assert record["classes"] == ["blue", "green"]
    assert set(record["metrics"][0]["per_class"]) == {"blue", "green"}


def test_table_and_csv(
    finished: tuple[Path, dict[str, Any], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.main([str(tmp_path / "runs"), "--csv", str(tmp_path / "grid.csv")])
    out = capsys.readouterr().out
    assert "1 runs" in out
    assert (tmp_path / "grid.csv").read_text().splitlines()[0] == ",".join(table.COLUMNS)
    with pytest.raises(SystemExit, match="error: .*nowhere must be a run or a folder of runs, but nothing is there"):
        runs.main([str(tmp_path / "nowhere")])
    (finished[0] / "record.json").write_text("{")
    with pytest.raises(SystemExit) as ended:
        runs.main([str(tmp_path / "runs")])
    assert ended.value.code == 1
    assert "record.json cannot be read" in capsys.readouterr().err


def test_batches_cover_a_part_once_in_an_order_of_seed_and_epoch() -> None:
    batches = BatchIndices(23, 5, seed=1)
    first = np.concatenate(list(batches))
    assert sorted(first) == list(range(23))
    assert len(list(batches)) == len(batches) == 5
    np.testing.assert_array_equal(first, np.concatenate(list(BatchIndices(23, 5, seed=1))))
    batches.set_epoch(1)
    assert not np.array_equal(first, np.concatenate(list(batches)))
    np.testing.assert_array_equal(np.concatenate(list(BatchIndices(23, 5, None))), np.arange(23))
    shares = [np.concatenate(list(BatchIndices(23, 5, 1, rank, 2))) for rank in (0, 1)]
    assert sorted(np.concatenate(shares)) == list(range(23))


def test_class_weights_are_scikit_learns() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.array([0] * 7 + [1] * 2 + [2])
    objective = Scratch(**SCHEDULE | {"balance": "class_weights"})
    np.testing.assert_allclose(
        ObjectiveLoss(objective, [7, 2, 1]).class_weights,
        compute_class_weight("balanced", classes=np.arange(3), y=labels),
    )


def test_warm_cosine() -> None:
    factors = [cosine_with_warmup(step, 100, 0.1) for step in range(100)]
    assert np.argmax(factors) == 10
    assert factors[10] == 1
    assert (np.diff(factors[:11]) > 0).all()
    assert (np.diff(factors[10:]) < 0).all()
    assert factors[-1] < 0.001
    assert factors[55] == pytest.approx(0.5)


@pytest.mark.parametrize("over", [1, 4, 0])
def test_what_is_validated_is_the_weights_exponential_average(over: int) -> None:
    network = Network(CNN(8, [4], [0.5] * 3, [0.5] * 3), OpticalPath(8, 0, 8).under(), nn.Linear(4, 2))
    classifier = Classifier(
        network, [1, 1], Scratch(**SCHEDULE | {"average_over": over}), {}, TrainingInput(None, network.optics)
    )
    trainer = SimpleNamespace(num_training_batches=5, max_epochs=4, world_size=1, accumulate_grad_batches=1)
    trainer.estimated_stepping_batches = 20
    classifier.trainer = trainer  # type: ignore[assignment]
    classifier.on_train_start()
    seen = []
    for _ in range(12):
        network(torch.randint(0, 256, (4, 8, 8, 3), dtype=torch.uint8))  # moves the batch norm's statistics
        network.head.weight.data += torch.rand_like(network.head.weight)  # type: ignore[union-attr]
        seen.append({name: value.numpy().copy() for name, value in trained_state(network).items()})
        classifier.on_train_batch_end()
    checkpoint: dict[str, Any] = {}
    classifier.on_save_checkpoint(checkpoint)
    kept = checkpoint["average"]
    alpha = 1 - np.exp(-over / 20) if over else 1.0
    assert kept.keys() == seen[0].keys()
    for name, value in kept.items():
        history = pd.DataFrame([state[name].ravel() for state in seen])
        expected = history.ewm(alpha=alpha, adjust=False).mean().iloc[-1]
        if value.is_floating_point():
            np.testing.assert_allclose(value.numpy().ravel(), expected, rtol=1e-5, atol=1e-6, err_msg=name)
    assert not classifier.average.network.training
    assert "average" not in dict(classifier.named_children())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", 0.0),
        ("warmup", 1.0),
        ("batch_size", 0),
        ("patience", 0),
        ("average_over", -1),
        ("updates", 0),
        ("min_epochs", -1),
        ("validations", 0),
    ],
)
def test_bad_recipes(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"adapt.{name} is out of its range"):
        Scratch(**SCHEDULE | {name: value})


def test_a_run_from_elsewhere_runs_nothing_but_ours(
    finished: tuple[Path, dict[str, Any], Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished[0], run)
    assert restore(run)
    record = read_record(run)
    for target in ("os.system", "cellpatch.cli.features.main", "cellpatch.config.assemble.assemble"):
        for key in ("component", "_target_"):
            record["config"]["model"]["backbone"] = {key: target, "input_px": 16, "arguments": ["--clear-all"]}
            replace_record(run, record)
            with pytest.raises(ValueError, match=r"model.backbone: no component"):
                restore(run)


def test_a_record_that_was_altered_is_refused(finished: tuple[Path, dict[str, Any], Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished[0], run)
    file = run / "record.json"
    whole = json.loads(file.read_text())
    file.write_text(json.dumps(whole, sort_keys=True))
    assert read_record(run) == finished[1], "the order of keys and blanks are nothing"
    altered = [whole | {"classes": whole["classes"][::-1]}, whole | {"temperature": 9.0}]
    altered += [{key: value for key, value in whole.items() if key != gone} for gone in ("files", "sha256")]
    for record in (*altered, [], "text"):
        file.write_text(json.dumps(record))
        with pytest.raises(ValueError, match="record.json is not as it was written"):
            restore(run)
        with pytest.raises(ValueError, match="record.json is not as it was written"):
            table.runs_table(tmp_path)


def test_costs_that_come_later_are_stated_for_every_stored_condition(
    tmp_path: Path, folder_of_squares: FolderMaker
) -> None:
    root = folder_of_squares(20, 5)
    first = "data.costs.classes=[red,green]"
    _train(tmp_path, root, *SMALL_CNN, "trainer.max_epochs=1", "optics.sigma=0.8")
    _train(tmp_path, root, *SMALL_CNN, "trainer.max_epochs=1", first, "data.costs.factor=3")
    run, record = _train(tmp_path, root, *SMALL_CNN, "trainer.max_epochs=1", "optics.sigma=[0.8,1.6]")
    assert record["config"]["data"]["costs"]["factor"] == 3
    assert len(record["metrics"]) == 5
    rows, probabilities = read_predictions(run)
    costs = Costs(record["config"]["data"]["costs"]["classes"], 3.0)
    for row in record["metrics"]:
        here = ((rows["kind"] == row["kind"]) & (rows["sigma"] == row["sigma"])).to_numpy()
        labels = np.array([record["classes"].index(label) for label in rows["label"][here]])
        assert row["cost_weighted_error"] == costs.error(labels, probabilities[here], record["classes"])
        assert row["confusion"] == confusion_matrix(labels, probabilities[here].argmax(1), labels=range(3)).tolist()


def test_a_run_whose_files_are_gone_does_not_count_as_there(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    root = folder_of_squares(20, 5)
    run, _ = _train(tmp_path, root, *SMALL_CNN, "trainer.max_epochs=1")
    (run / "predictions.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="predictions.parquet is missing or not as the record states"):
        read_predictions(run)
    (run / "weights.safetensors").unlink()
    with pytest.raises(ValueError, match="is missing or not as the record states"):
        _train(tmp_path, root, *SMALL_CNN, "trainer.max_epochs=1")


def test_altered_runs_are_named(
    finished: tuple[Path, dict[str, Any], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("whole", "weights", "record", "config", "moved", "scores", "bare", "temperature", "renamed")
    copies = {name: tmp_path / f"{name}-{finished[1]['identity']}" for name in names}
    for copy in copies.values():
        shutil.copytree(finished[0], copy)
    (copies["weights"] / "weights.safetensors").write_bytes(b"")
    file = copies["record"] / "record.json"
    file.write_text(file.read_text().replace('"temperature"', '"Temperature"'))
    config = finished[1]["config"] | {"seed": 99}
    replace_record(copies["config"], finished[1] | {"config": config})
    copies["moved"].rename(tmp_path / "moved-0123456789ab")
    copies["renamed"].rename(tmp_path / "renamed-by-hand")
    better = [finished[1]["metrics"][0] | {"macro_f1": 0.99}]
    replace_record(copies["scores"], finished[1] | {"metrics": better})
    replace_record(copies["temperature"], finished[1] | {"temperature": 3.25})
    (copies["bare"] / "record.json").unlink()
    output = verify(tmp_path)
    named = ["ece_scaled at none 0", "nll_scaled at none 0", "brier_scaled at none 0"]
    assert mismatched_metrics(StoredRun.open(copies["temperature"])) == ["temperature", *named]
    assert len(output) == 4 + 1 + 1 + 4 + 1
    for name, message in (
        ("weights", "weights.safetensors is missing or not as"),
        ("record", "record.json is not as it was written"),
        ("config", "its identity is"),
        ("scores", "macro_f1 at none 0 differs from the value computed from its predictions"),
        ("bare", "record.json cannot be read"),
        ("moved", "its identity is"),
        ("renamed", "hand by its name"),
    ):
        assert any(f"{name}-" in line and message in line for line in output), name
    with pytest.raises(SystemExit, match="1"):
        runs.main([str(tmp_path), "--verify"])
    assert "9 runs in" in capsys.readouterr().out


def test_states_of_runs(finished: tuple[Path, dict[str, Any], Path], tmp_path: Path) -> None:
    shutil.copytree(finished[0], tmp_path / finished[0].name)
    for name in ("busy-0123456789ab", "killed-ba9876543210"):
        (tmp_path / f".{name}.77.tmp").mkdir()
    (tmp_path / ".failed").mkdir()
    (tmp_path / ".failed" / "broken-aaaaaaaaaaaa.log").write_text("ValueError: no")
    with locks.run_lock(tmp_path, "0123456789ab"):
        found = status.run_states(tmp_path).set_index("run")
    assert found["state"].to_dict() == {
        "busy-0123456789ab": "running",
        "killed-ba9876543210": "interrupted",
        "broken-aaaaaaaaaaaa": "failed",
        finished[0].name: "done",
    }
    assert found.loc[finished[0].name, "macro_f1"] == finished[1]["metrics"][0]["macro_f1"]
    console = Console(width=120, record=True)
    status.watch(tmp_path, console)
    text = console.export_text()
    assert "0 running, 2 interrupted, 1 failed, 0 unreadable, 0 waiting, 1 done" in text
    assert "broken-aaaaaaaaaaaa" in text


def test_a_blur_that_reaches_beyond_the_margin_is_reported(
    tmp_path: Path, folder_of_squares: FolderMaker, caplog: pytest.LogCaptureFixture
) -> None:
    _train(tmp_path, folder_of_squares(20, 5), *SMALL_CNN, "trainer.max_epochs=1", "optics.sigma=0.4")
    assert "the margin of 0 px is less than the reach of post 0.4, pre 0.4: missing" in caplog.text


def test_a_training_that_diverges_says_so(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    with pytest.raises(ValueError, match="training diverged, its probabilities are not finite: lower adapt.lr"):
        _train(tmp_path, folder_of_squares(20, 5), *SMALL_CNN, "trainer.max_epochs=2", "adapt.lr=1e30")
    assert not list((tmp_path / "runs").glob("[!.]*"))


def test_json_is_strict(finished: tuple[Path, dict[str, Any], Path]) -> None:
    def refuse(value: str) -> None:
        raise AssertionError(f"{value} is not JSON")

    json.loads((finished[0] / "record.json").read_text(), parse_constant=refuse)


def test_a_single_command_whose_run_fails_elsewhere_ends_with_an_error(
    tmp_path: Path, folder_of_squares: FolderMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = locks.claim_run

    def after_another(*arguments: Any) -> Any:
        with pytest.raises(ValueError, match="of the other"), claim(*arguments):
            raise ValueError("of the other")
        return claim(*arguments)

    monkeypatch.setattr(runner, "claim_run", after_another)
    with pytest.raises(ValueError, match="cnn-.* failed in another process meanwhile: give the command again"):
        train(_config(tmp_path, folder_of_squares(), *SMALL_CNN))


def test_cells_lie_where_there_is_room(store_of: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU that has room, in memory where it has not, on disk where that is not wanted."""
    part, gpu, cpu = np.arange(10), torch.device("cuda"), torch.device("cpu")
    store = CellStore(store_of())  # 30 crops of 8 px: 5760 bytes
    dataset = CellDataset(store, ["a", "b"], np.zeros(30, int), unaudited_split(part, part + 10, part + 20))
    loading = Loading("stores", 1.0, 0, "embeddings", 1.0, "float32", None)
    data = CellData(dataset, Batches(8), 8, 0, loading)
    for free, place in ((12_000, gpu), (11_000, cpu)):
        monkeypatch.setattr("cellpatch.data.datamodule._free", lambda device, free=free: free)
        assert data._resident_device(gpu) == place
    assert data._resident_device(cpu) == cpu
    tight = CellData(dataset, Batches(8), 8, 0, replace(loading, resident_gib=1e-6))
    assert tight._resident_device(gpu) is None
