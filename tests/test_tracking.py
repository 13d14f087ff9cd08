"""What trackers show of a run, read back from their files; and that none of them costs a run."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import config_of
from PIL import Image
from stored import read_record, replace_record

from cellpatch.cli import latency
from cellpatch.config.assemble import assemble
from cellpatch.config.schema import compose_config
from cellpatch.data.dataset import open_dataset, open_store
from cellpatch.metrics.degradation import slope
from cellpatch.runs.cards import BatchTiming, Hardware, LatencyCard
from cellpatch.runs.record import NetworkSize
from cellpatch.runs.stored_run import StoredRun
from cellpatch.runs.tracking import facts, review, settings, tracker
from cellpatch.runs.tracking.confusion_chart import draw_confusion
from cellpatch.runs.tracking.settings import Csv, Wandb
from cellpatch.runs.tracking.tracker import Tracking
from cellpatch.runs.verify import verify
from cellpatch.sweeps.train import train

FolderMaker = Callable[..., Path]
SMALL = ["model=cnn", "model.backbone.input_px=16", "model.backbone.widths=[8,16]", "model.recipe.lr=0.01"]
SMALL += ["adapt.batch_size=8", "trainer.max_epochs=3", "flag_limit=8"]


def _read_wandb(run: Path) -> dict[str, Any]:
    """Config, summary and more of the newest W&B file of a run, read by W&B's own reader."""
    newest = max(run.glob("wandb/offline-run-*/*.wandb"), key=lambda file: file.stat().st_mtime_ns)
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(newest)]
    summary = json.loads(subprocess.run([*command, "--summary"], capture_output=True, text=True, check=True).stdout)
    records = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return summary | {"records": list(map(json.loads, records))}


def _history(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [record["history"]["item"] for record in found["records"] if record["type"] == "history"]


def _table(run: Path, found: Mapping[str, Any], name: str) -> pd.DataFrame:
    """A table of the summary, whole."""
    [file] = run.glob(f"wandb/offline-run-*/files/{found['summary'][name]['path']}")
    stored = json.loads(file.read_text())
    return pd.DataFrame(stored["data"], columns=stored["columns"])


@pytest.fixture
def tracked(tmp_path: Path, folder_of_squares: FolderMaker) -> Callable[..., Path]:
    root = folder_of_squares(20, 5)

    def run(*overrides: str) -> Path:
        train(config_of(tmp_path, root, *SMALL, *overrides))
        [folder] = (tmp_path / "runs").glob("cnn*")
        return folder

    return run


@pytest.mark.long
def test_one_wandb_run_is_one_run_of_ours_whole(tracked: Callable[..., Path]) -> None:
    run = tracked("logger=wandb", "optics.sigma=[0.4,0.8]")
    record, found = read_record(run), _read_wandb(run)
    assert found["name"] == run.name
    assert found["run_id"] == record["identity"]
    assert found["tags"] == ["cnn", "scratch", "folder", "flag_limit=8"]
    started = next(each["run"] for each in found["records"] if each["type"] == "run")
    assert (started["run_group"], started["job_type"]) == ("folder", "training")
    config = found["config"]
    expected = {
        "n_train": 24,
        "n_validation": 12,
        "n_test": 12,
        "n_classes": 3,
        "flag_limit": 8,
        "data_fingerprint": record["data"]["fingerprint"],
        "split_by": "specimen",
        "parameters": record["size"]["parameters"],
        "label": "cnn scratch",
    }
    assert {key: config[key] for key in expected} == expected
    assert config["mmac"] == pytest.approx(record["size"]["mmac"])
    assert config["model"]["name"] == "cnn"

    summary, clean = found["summary"], record["metrics"][0]
    assert summary["best/val_macro_f1"] == pytest.approx(record["val_macro_f1"])
    assert (summary["best/epoch"], summary["best/update"]) == (record["best_epoch"], record["best_update"])
    assert summary["val_macro_f1"]["max"] == pytest.approx(record["val_macro_f1"])
    for name in ("accuracy", "macro_f1", "balanced_accuracy", "ece", "nll", "mcc"):
        assert summary[f"test/{name}"] == pytest.approx(clean[name])
    for row in record["metrics"][1:]:
        assert summary[f"blur/{row['kind']}/{row['sigma']:g}/macro_f1"] == pytest.approx(row["macro_f1"])
    assert {"slope/post/macro_f1", "slope/pre/macro_f1", "temperature", "seconds/train"} <= summary.keys()
    assert len(record["metrics"]) == 5

    rows = [row for row in _history(found) if "val_loss" in row]
    assert [row["update"] for row in rows] == [3, 6, 9]
    for row, stored in zip(rows, record["history"], strict=True):
        for name in ("lr", "train_accuracy", "val_macro_f1", "train_loss", "val_loss", "val_accuracy"):
            assert row[name] == pytest.approx(stored[name])
    [test] = [row for row in _history(found) if "test/macro_f1" in row]
    assert test["flag_limit"] == 8, "an x axis"
    defined = {
        each["metric"].get("name") or each["metric"]["glob_name"]: each["metric"]
        for each in found["records"]
        if each["type"] == "metric"
    }
    assert defined["test/*"]["step_metric"] == "flag_limit"
    assert defined["val_macro_f1"]["summary"] == {"max": True}

    numbers = {key for row in _history(found) for key, value in row.items() if isinstance(value, int | float)}
    charts = sorted(key for key in numbers if key[0] != "_" and "." not in key)
    scores = ["test/accuracy", "test/balanced_accuracy", "test/ece", "test/macro_f1"]
    curves = ["train_accuracy", "train_loss", "update", "val_accuracy", "val_loss", "val_macro_f1"]
    assert charts == ["flag_limit", "lr", *scores, *curves], "the first page has scores and losses"
    assert not [key for key in numbers if "ncols" in key or "nrows" in key], "once the first charts"

    assert _table(run, found, "tables/confusion").iloc[:, 1:].to_numpy().tolist() == clean["confusion"]
    assert list(_table(run, found, "tables/per_class")["class"]) == record["classes"]
    assert len(_table(run, found, "tables/blur")) == 5
    images = sorted(file.name for file in run.glob("wandb/offline-run-*/files/media/images/cells/*.png"))
    assert images
    assert {Image.open(file).size for file in run.glob("wandb/offline-run-*/files/media/images/cells/*.png")} == {
        (160, 160)
    }
    assert record["logged"] == ["wandb"]
    assert record["warnings"] == []
    assert not (run.parent / ".tracking" / run.name).exists()
    assert verify(run.parent) == []


@pytest.mark.long
def test_what_comes_later_joins_the_same_wandb_run(tracked: Callable[..., Path]) -> None:
    run = tracked("logger=wandb")
    assert tracked("logger=wandb", "optics.sigma=0.8", "optics.kind=post") == run
    files = sorted(run.glob("wandb/offline-run-*/*.wandb"))
    assert [file.name for file in files] == [f"run-{read_record(run)['identity']}.wandb"] * 2
    found = _read_wandb(run)
    row = read_record(run)["metrics"][1]
    assert found["summary"]["blur/post/0.8/macro_f1"] == pytest.approx(row["macro_f1"])
    assert len(_table(run, found, "tables/blur")) == 2
    assert _history(found) == [], "the curve is in the first file"


@pytest.mark.long
def test_the_same_grid_with_each_logger_has_the_same_numbers(
    tracked: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    run = tracked("logger=[csv,tensorboard,mlflow]", "optics.sigma=0.8", "optics.kind=post")
    record = read_record(run)
    assert record["logged"] == ["csv", "tensorboard", "mlflow"]
    expected = facts.numbers(StoredRun.open(run).record)
    assert {"test/macro_f1", "blur/post/0.8/macro_f1", "slope/post/macro_f1", "best/val_macro_f1"} <= expected.keys()

    table = pd.read_csv(run / "csv/version_0/metrics.csv")
    curve = table.dropna(subset="val_loss")
    assert curve["step"].tolist() == [3, 6, 9]
    assert curve["val_macro_f1"].tolist() == pytest.approx([row["val_macro_f1"] for row in record["history"]])
    [last] = table.dropna(subset="test/macro_f1").to_dict("records")
    assert {name: last[name] for name in expected} == pytest.approx(expected)

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert [row.step for row in events.Scalars("val_macro_f1")] == [3, 6, 9]
    assert {name: events.Scalars(name)[-1].value for name in expected} == pytest.approx(expected)

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{run.parent}/.mlflow/mlflow.db")
    [experiment] = client.search_experiments(filter_string="name = 'cellpatch'")
    [shown] = client.search_runs([experiment.experiment_id])
    assert shown.info.run_name == run.name
    assert {name: shown.data.metrics[name] for name in expected} == pytest.approx(expected)
    assert [row.step for row in client.get_metric_history(shown.info.run_id, "lr")] == [3, 6, 9]
    assert shown.data.params["n_train"] == "24"


class _Failing:
    """A tracker that fails where it is asked to."""

    def __init__(self, where: str) -> None:
        self.where, self.closed = where, False
        self._fail("open")

    def _fail(self, where: str) -> None:
        if where == self.where:
            raise OSError(f"no space for {where}")

    def log_round(self, row: Mapping[str, float]) -> None:
        self._fail("log_round")

    def finish(self, run: StoredRun, dataset: Any) -> None:
        assert (run.folder / "record.json").exists(), "results are on disk before anything is shown"
        self._fail("finish")

    def close(self, failed: bool) -> None:
        self.closed = True
        self._fail("close")


@pytest.mark.parametrize("where", ["open", "log_round", "finish", "close"])
def test_a_tracker_that_fails_costs_no_run_and_is_a_warning(
    tracked: Callable[..., Path], where: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    opened = tracker._open
    monkeypatch.setattr(tracker, "_open", lambda settings, about: _Failing(where))
    run = tracked("logger=csv", "trainer.max_epochs=1")
    record = read_record(run)
    assert record["logged"] == []
    assert record["warnings"] == [f"logger=csv failed, and the run goes on without it: OSError: no space for {where}"]
    assert f"no space for {where}" in caplog.text
    assert verify(run.parent) == []
    monkeypatch.setattr(tracker, "_open", opened)
    assert tracked("logger=csv", "trainer.max_epochs=1") == run
    assert read_record(run)["logged"] == ["csv"]
    table = pd.read_csv(run / "csv/version_0/metrics.csv")
    assert table.dropna(subset="val_loss")["step"].tolist() == [3], "the whole curve, though it was not there live"
    assert table["test/macro_f1"].notna().sum() == 1


def test_an_interrupt_in_a_tracker_is_no_warning(tmp_path: Path) -> None:
    class Interrupted(_Failing):
        def log_round(self, row: Mapping[str, float]) -> None:
            raise KeyboardInterrupt

    tracking = Tracking([Csv()])
    tracking._open["csv"] = Interrupted("never")
    with pytest.raises(KeyboardInterrupt):
        tracking.log_round({})


@pytest.mark.long
def test_a_media_folder_that_is_cleaned_meanwhile_costs_nothing(
    tracked: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from wandb.sdk.data_types._private import MEDIA_TMP

    from cellpatch.runs import runner

    show = runner._show

    def cleaned(*arguments: Any) -> Any:
        shutil.rmtree(MEDIA_TMP.name)
        return show(*arguments)

    monkeypatch.setattr(runner, "_show", cleaned)
    run = tracked("logger=wandb", "trainer.max_epochs=1")
    record = read_record(run)
    assert (record["logged"], record["warnings"]) == (["wandb"], [])
    assert list(run.glob("wandb/offline-run-*/files/media/images/cells/*.png"))


def test_a_resumed_training_shows_its_whole_curve(
    tmp_path: Path, tracked: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    log_round, rows = Tracking.log_round, []

    def interrupted(self: Tracking, row: Mapping[str, float]) -> None:
        log_round(self, row)
        rows.append(row)
        if len(rows) == 3:  # the checkpoints of the first two rounds are written
            raise KeyboardInterrupt

    monkeypatch.setattr(Tracking, "log_round", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tracked("logger=csv", "trainer.resume=true")
    assert not list((tmp_path / "runs").glob("cnn*"))
    run = tracked("logger=csv", "trainer.resume=true")
    assert read_record(run)["resumed_at_update"]
    curve = pd.read_csv(run / "csv/version_0/metrics.csv").dropna(subset="val_loss")
    assert curve["step"].tolist() == [3, 6, 9]


def test_what_a_killed_process_left_is_removed(tmp_path: Path, tracked: Callable[..., Path]) -> None:
    run = tracked("logger=csv", "trainer.max_epochs=1")
    name = run.name
    shutil.rmtree(run)
    left = run.parent / ".tracking" / name / "csv" / "version_0"
    left.mkdir(parents=True)
    (left / "metrics.csv").write_text("step\n1\n")
    assert tracked("logger=csv", "trainer.max_epochs=1") == run
    assert [path.name for path in (run / "csv").iterdir()] == ["version_0"]
    assert "val_loss" in (run / "csv/version_0/metrics.csv").read_text()
    assert not (run.parent / ".tracking" / name).exists()


def test_a_package_that_is_missing_is_an_error_before_any_work(
    tmp_path: Path, folder_of_squares: FolderMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"logger=tensorboard needs another package: pip install 'cellpatch\[tensorboard\]'"
    ):
        assemble(config_of(tmp_path, folder_of_squares(4, 4), "logger=[csv,tensorboard]"))


def test_the_trackers_of_a_record() -> None:
    asked = compose_config(["logger=[wandb,csv]", "logger.wandb.project=mine"])
    built = assemble(asked).trackers
    assert built == [Wandb("mine", True, None, None, 0), Csv()]
    assert [settings.name_of(each) for each in built] == ["wandb", "csv"]
    stored = {"wandb": asdict(built[0]) | {"component": "wandb"}, "csv": {"component": "csv"}}
    assert settings.stored_trackers(stored, "here") == built
    before = {"component": "wandb", "project": "mine", "offline": True}
    assert settings.stored_trackers(before, "a run of 0.5.0") == built[:1]
    assert settings.stored_trackers({}, "here") == []
    with pytest.raises(ValueError, match=r"here: config.logger must be of wandb, tensorboard, csv, mlflow, but got os"):
        settings.stored_trackers({"os": {"_target_": "os.system"}}, "here")
    with pytest.raises(ValueError, match=r"here: config.logger.wandb.offline"):
        settings.stored_trackers({"wandb": asdict(built[0]) | {"offline": "perhaps"}}, "here")
    for wrong, right in (
        ("logger.offline=false", "logger.wandb.offline"),
        ("logger.project=x", "logger.wandb.project"),
    ):
        with pytest.raises(ValueError, match=f"has another name now: {right}"):
            compose_config([wrong])


def test_numbers_of_a_record(tracked: Callable[..., Path]) -> None:
    run = StoredRun.open(tracked("logger=none", "optics.sigma=[0.4,0.8]", "optics.kind=post", "trainer.max_epochs=1"))
    record = run.record
    rows = [
        replace(row, scores=replace(row.scores, macro_f1=f1))
        for row, f1 in zip(record.metrics, (0.9, 0.8, 0.5), strict=True)
    ]
    hardware = Hardware("abacus", 2, 1, None)
    timing = BatchTiming(batch=1, ms=4.0, low=3.0, high=5.0, peak_mib=1.0)
    card = LatencyCard(hardware, "cpu", None, 1, 1.0, {"eager": [timing, replace(timing, batch=4, ms=2.0)]})
    found = facts.numbers(replace(record, metrics=rows, latency=card))
    assert found["test/macro_f1"] == 0.9
    assert found["blur/post/0.4/macro_f1"] == 0.8
    assert found["slope/post/macro_f1"] == pytest.approx(float(slope([0, 0.4, 0.8], np.array([0.9, 0.8, 0.5]))))
    assert found["slope/post/macro_f1"] == pytest.approx(np.polyfit(np.log2([1, 1.4, 1.8]), [0.9, 0.8, 0.5], 1)[0])
    assert found["latency/eager_ms"] == 2.0
    assert all(isinstance(value, int | float) for value in found.values())
    old = replace(record, size=None, audit=None, git=None, hardware=None, training_code=None)
    assert {"parameters", "split_by", "commit"}.isdisjoint(facts.hyperparameters(old)), "not known is left out"
    assert facts.hyperparameters(replace(record, size=NetworkSize(7, 0.5)))["mmac"] == 0.5


def test_a_confusion_matrix_as_an_image(tracked: Callable[..., Path]) -> None:
    record = StoredRun.open(tracked("logger=none", "trainer.max_epochs=1")).record
    shown = {}
    for name in ("short", "long " * 99):
        scores = replace(record.clean, confusion=[[9, 0, 0], [0, 1, 3], [0, 0, 0]])
        rows = [replace(record.metrics[0], scores=scores)]
        shown[name] = draw_confusion(replace(record, classes=[name, "β", "клетка"], metrics=rows))
    image = shown["short"]
    assert image.shape == (464, 464, 3)
    blues = [(8, 48, 107), (193, 203, 218), (70, 100, 144)]  # shares of 1, 1/4 and 3/4, from white to the darkest
    where = [np.argwhere((image == blue).all(axis=2)) for blue in blues]
    assert [len(each) > 5000 for each in where] == [True] * 3
    centres = [np.rint(each.mean(axis=0)) for each in where]
    side = centres[1][0] - centres[0][0]
    assert [(each - centres[0]).tolist() for each in centres[1:]] == [
        pytest.approx([side, side], abs=2),
        pytest.approx([side, 2 * side], abs=2),
    ]
    assert shown["long " * 99].shape == (464, 464, 3)


@pytest.mark.long
def test_a_second_run_of_a_process_lists_the_same_packages_and_whole_images(
    tmp_path: Path, folder_of_squares: FolderMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cellpatch.runs.tracking import wandb_tracker

    read: list[None] = []
    listed = wandb_tracker._list_packages
    monkeypatch.setattr(wandb_tracker, "_list_packages", lambda: (read.append(None), listed())[1])
    root = folder_of_squares(20, 5)
    configs = [config_of(tmp_path, root, *SMALL, "logger=wandb", "trainer.max_epochs=1", f"seed={n}") for n in range(2)]
    for config in configs:
        train(config)
    assert len(read) <= 1, "an earlier test's run may have read them"
    files = sorted((tmp_path / "runs").glob("cnn*/wandb/offline-run-*/files/requirements.txt"))
    assert len(files) == 2
    expected = {f"{each.metadata['Name']}=={each.version}" for each in distributions()}
    for file in files:
        assert set(file.read_text().splitlines()) == expected
    run = StoredRun.open(next((tmp_path / "runs").glob("cnn*-s0-*")))
    data = assemble(configs[0]).data
    dataset = open_dataset(open_store(data), data.split, 8, 0)
    shown = review.show_cells(run.clean_predictions, dataset, run.record.classes)
    pixels = {cell.pixels.tobytes() for cells in shown.values() for cell in cells}
    images = run.folder.glob("wandb/offline-run-*/files/media/images/cells/*.png")
    assert {np.asarray(Image.open(file)).tobytes() for file in images} == pixels


@pytest.mark.long
def test_tables_and_chart_of_two_hundred_classes(tracked: Callable[..., Path]) -> None:
    record = StoredRun.open(tracked("logger=none", "trainer.max_epochs=1")).record
    names = [f"class {i}" for i in range(200)]
    one = next(iter(record.clean.per_class.values()))
    confusion = np.eye(200, dtype=int).tolist()
    scores = replace(record.clean, per_class=dict.fromkeys(names, one), confusion=confusion)
    many = replace(
        record,
        classes=names,
        metrics=[replace(record.metrics[0], scores=scores)],
        counts={"train": dict.fromkeys(names, 1)},
    )
    assert review.confusion_table(many).shape == (200, 201)
    assert review.per_class_table(many)["class"].tolist() == names
    assert draw_confusion(many).shape == (2400, 2400, 3)


def test_groups_and_names_for_older_records(tmp_path: Path, tracked: Callable[..., Path]) -> None:
    run = tracked("logger=none", "trainer.max_epochs=1")
    record = read_record(run)
    assert record["logged"] == []
    replace_record(run, {key: value for key, value in record.items() if key not in ("logged", "warnings", "size")})
    assert tracked("logger=csv", "trainer.max_epochs=1") == run
    assert not (run / "csv").exists(), "an earlier version may have shown it: it is left as it is"


def test_a_card_is_sent_to_a_server_only_on_request(
    tracked: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tracked("logger=none", "trainer.max_epochs=1")
    online = asdict(Wandb("mine", False, None, None, 0)) | {"component": "wandb"}
    server = {"component": "mlflow", "experiment": "x", "tracking_uri": "http://127.0.0.1:9"}
    record = read_record(run)
    record["config"]["logger"] = {"wandb": online, "mlflow": server, "csv": {"component": "csv"}}
    replace_record(run, record)
    shown: list[str] = []
    monkeypatch.setattr(tracker, "_open", lambda each, about: shown.append(settings.name_of(each)) or _Failing("never"))
    for upload, expected in ((False, ["csv"]), (True, ["wandb", "mlflow", "csv"])):
        shown.clear()
        latency._show(StoredRun.open(run), upload)
        assert shown == expected
    assert "its card is not sent to a server; --upload sends it" in capsys.readouterr().out


def test_a_run_that_was_not_shown_is_shown_whole_when_blur_is_added(tracked: Callable[..., Path]) -> None:
    run = tracked("logger=none", "trainer.max_epochs=1")
    assert tracked("logger=csv", "trainer.max_epochs=1", "optics.sigma=0.8", "optics.kind=post") == run
    table = pd.read_csv(run / "csv/version_0/metrics.csv")
    assert table.dropna(subset="val_loss")["step"].tolist() == [3], "its curve"
    assert table["blur/post/0.8/macro_f1"].notna().sum() == 1
    assert tracked("logger=csv", "trainer.max_epochs=1", "optics.sigma=1.6", "optics.kind=post") == run
    later = pd.read_csv(run / "csv/version_1/metrics.csv")
    assert "val_loss" not in later, "what came later, without the curve again"


def test_a_tracker_that_fails_is_closed() -> None:
    failing = _Failing("log_round")
    tracking = Tracking([Csv()])
    tracking._open["csv"] = failing
    tracking.log_round({"update": 1})
    assert failing.closed, "W&B gives a run that is still open to the next one"
    assert tracking._open == {}
