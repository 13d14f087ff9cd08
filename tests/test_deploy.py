"""A stored run outside of training: new images, an ONNX file, a card of what a cell costs."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from conftest import config_of, square_crop, start_python
from PIL import Image
from stored import read_predictions, read_record, replace_record

from cellpatch.cli import latency as latency_command
from cellpatch.data.dataset import find_store
from cellpatch.inference import latency
from cellpatch.inference.export import export
from cellpatch.inference.new_cells import PointOptions
from cellpatch.inference.predict import predict
from cellpatch.inference.restore import restore
from cellpatch.optics.conditions import CLEAN
from cellpatch.runs.locks import run_lock
from cellpatch.runs.stored_run import StoredRun
from cellpatch.sweeps.train import train

SMALL = [
    "model=cnn",
    "model.backbone.input_px=16",
    "model.backbone.widths=[8,16]",
    "trainer.max_epochs=2",
    "optics.via_px=16",
]


@pytest.fixture
def run(tmp_path: Path, folder_of_squares: Callable[..., Path]) -> Path:
    train(config_of(tmp_path, folder_of_squares(20, 5), *SMALL))
    [file] = (tmp_path / "runs").glob("*/record.json")
    return file.parent


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    for i in range(7):
        file = tmp_path / "new" / f"slide {i % 2}" / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(square_crop(rng, i % 3)).save(file)
    return tmp_path / "new"


def test_new_images_get_the_network_s_probabilities(run: Path, images: Path, tmp_path: Path) -> None:
    found = predict(run, images).table()
    classes = read_record(run)["classes"]
    assert list(found["path"]) == sorted(f"slide {i % 2}/{i}.png" for i in range(7))
    crops = np.stack([np.asarray(Image.open(images / path)) for path in found["path"]])
    with torch.no_grad():
        expected = restore(run).network(torch.from_numpy(crops)).softmax(1).numpy()
    np.testing.assert_allclose(found[[f"p_{name}" for name in classes]], expected, atol=1e-6)
    assert list(found["class"]) == [classes[code] for code in expected.argmax(1)]
    np.testing.assert_allclose(found["probability"], expected.max(1), atol=1e-6)
    table = tmp_path / "new" / "cells.csv"
    found[["path"]].iloc[::-1].to_csv(table, index=False)
    assert list(predict(run, table).table()["p_red"]) == pytest.approx(list(found["p_red"])[::-1])
    assert len(predict(run, images / "slide 0" / "0.png").rows) == 1


def test_cells_are_cut_out_of_images_at_points(tmp_path: Path, folder_of_squares: Callable[..., Path]) -> None:
    train(config_of(tmp_path, folder_of_squares(20, 5), *SMALL, "data.um_per_px=0.5"))
    [file] = (tmp_path / "runs").glob("*/record.json")
    rng = np.random.default_rng(4)
    squares = [square_crop(rng, i % 3) for i in range(6)]
    slide = np.concatenate([np.concatenate(squares[:3], axis=1), np.concatenate(squares[3:], axis=1)])
    (tmp_path / "slides").mkdir()
    Image.fromarray(slide).save(tmp_path / "slides" / "a.png")
    Image.fromarray(slide).resize((96, 64), Image.Resampling.BICUBIC).save(tmp_path / "slides" / "fine.png")
    for i, square in enumerate(squares):
        Image.fromarray(square).save(tmp_path / f"{i}.png")
    pd.DataFrame({"path": [f"{i}.png" for i in range(6)]}).to_csv(tmp_path / "crops.csv", index=False)
    expected = predict(file.parent, tmp_path / "crops.csv").table()
    points = pd.DataFrame({"cell_id": list("uvwxyz"), "image": "a.png", "x": [8, 24, 40] * 2, "y": [8] * 3 + [24] * 3})
    table = tmp_path / "slides" / "points.csv"

    def found(points: pd.DataFrame, **how: Any) -> pd.DataFrame:
        points.to_csv(table, index=False)
        return predict(file.parent, table, points=PointOptions(**how)).table()

    got = found(points, um_per_px=0.5)
    pd.testing.assert_frame_equal(
        got[["cell_id", "image", "x", "y"]], points.astype(object).map(str), check_dtype=False
    )
    pd.testing.assert_frame_equal(got.iloc[:, 4:], expected.iloc[:, 1:], atol=1e-6)
    fine = points.assign(image="fine.png", x=points["x"] * 2, y=points["y"] * 2)
    assert list(found(fine, um_per_px=0.25)["class"]) == list(expected["class"])
    near = pd.concat([points.assign(x=2), points])
    kept = found(near, um_per_px=0.5)
    assert list(kept["left_out"]) == ["its crop leaves the image"] * 6 + [""] * 6
    assert list(kept["class"].notna()) == [False] * 6 + [True] * 6
    assert found(near, um_per_px=0.5, border="reflect")["class"].notna().all()
    with pytest.raises(ValueError, match=r"no cell can be classified .its crop leaves the image"):
        found(points.assign(x=2), um_per_px=0.5)
    with pytest.raises(ValueError, match="a.png: does not state its scale; give --um-per-px"):
        found(points)
    with pytest.raises(ValueError, match=r"points.csv, row 2: x=48.0 y=8.0 is outside a.png .48x32 px"):
        found(points.assign(x=48), um_per_px=0.5)
    with pytest.raises(ValueError, match="row 2.*points outside"):
        found(points.assign(image="../a.png"), um_per_px=0.5)
    with pytest.raises(ValueError, match="row 3: column 'image' is empty"):
        found(points.assign(image=["a.png", "", *["a.png"] * 4]), um_per_px=0.5)
    with pytest.raises(ValueError, match="row 2: b.png.*no such|row 2: .*b.png"):
        found(points.assign(image="b.png"), um_per_px=0.5)
    with pytest.raises(ValueError, match=r"needs a column path .crops. or image, x, y"):
        found(points.drop(columns="x"))


def test_points_need_a_run_that_knows_its_scale(run: Path, images: Path) -> None:
    table = images / "slide 0" / "points.csv"
    table.write_text("image,x,y\n0.png,8,8\n")
    with pytest.raises(ValueError, match="state no scale, so none can be cut"):
        predict(run, table)


def test_known_cells_get_their_stored_probabilities(run: Path, tmp_path: Path) -> None:
    rows, probabilities = read_predictions(run)
    again = predict(run, tmp_path / "cells").table().set_index("path").loc[rows["cell_id"]]
    np.testing.assert_allclose(again[[f"p_{name}" for name in read_record(run)["classes"]]], probabilities, atol=1e-5)


@pytest.mark.long
def test_bad_images_are_listed_together_and_nothing_is_written(run: Path, images: Path, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(images / "wide.png")
    (images / "empty.png").touch()
    out = tmp_path / "out.csv"
    process = start_python("-m", "cellpatch.predict", str(run), str(images), "--out", str(out))
    _, output = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "error: 2 problems in the input" in output
    assert f"wide.png: is 20 px wide; {run.name} takes 16 px" in output
    assert "empty.png: is empty (zero bytes)" in output
    assert not out.exists()
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ValueError, match="holds no image"):
        predict(run, tmp_path / "nothing")
    with pytest.raises(ValueError, match="must be an image, a folder of images, a table"):
        predict(run, tmp_path / "absent.png")
    outside = tmp_path / "new" / "outside.csv"
    outside.write_text("path\n../secret.png\n")
    with pytest.raises(ValueError, match="outside.csv, row 2.*points outside"):
        predict(run, outside)


@pytest.mark.parametrize("damage", ["record", "weights", "absent"])
def test_a_run_that_is_not_whole_is_refused(run: Path, images: Path, tmp_path: Path, damage: str) -> None:
    if damage == "record":
        (run / "record.json").unlink()
    elif damage == "weights":
        content = bytearray((run / "weights.safetensors").read_bytes())
        content[-1] ^= 1
        (run / "weights.safetensors").write_bytes(content)
    else:
        run = tmp_path / "runs" / "none"
    output = (
        "weights.safetensors is missing or not as the record states" if damage == "weights" else "record.json cannot be"
    )
    with pytest.raises(ValueError, match=output):
        predict(run, images)
    with pytest.raises(ValueError, match=output):
        export(run, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_a_run_that_cannot_be_restored_as_asked_says_why(run: Path, images: Path) -> None:
    with pytest.raises(ValueError, match="was trained from scratch: it has no published weights to look for"):
        predict(run, images, images / "weights.safetensors")
    record = read_record(run)
    del record["data"]["geometry"]
    replace_record(run, record)
    with pytest.raises(ValueError, match="does not state the crops' geometry: train it with this version"):
        predict(run, images)


@pytest.mark.long
def test_an_onnx_file_gives_the_run_s_predictions(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "out.onnx"
    output = export(run, file)
    record = read_record(run)
    rows, probabilities = read_predictions(run)
    assert f"the run's predictions of {len(rows)} test cells" in output
    session = onnxruntime.InferenceSession(file)
    store = find_store(tmp_path / "stores", record["data"]["fingerprint"])
    assert store is not None
    place = {cell: i for i, cell in enumerate(store.cells["cell_id"])}
    crops = store.crops(np.array([place[cell] for cell in rows["cell_id"]]))
    for n in (1, 3, len(crops)):
        [got] = session.run(None, {"crops": crops[:n]})
        np.testing.assert_allclose(got, probabilities[:n], atol=1e-5)
    props = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    assert json.loads(props["classes"]) == record["classes"]
    assert json.loads(props["geometry"])["crop_px"] == 16
    assert props["run"] == run.name


def test_an_export_without_the_store_is_compared_with_torch(run: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "stores")
    assert "torch on 64 random crops" in export(run, tmp_path / "out.onnx")
    with pytest.raises(ValueError, match="must end in .onnx"):
        export(run, tmp_path / "out.bin")


def test_an_export_that_differs_is_not_written(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clean = StoredRun.open(run).predictions[CLEAN]
    moved = {CLEAN: clean._replace(probabilities=clean.probabilities + 0.01)}
    monkeypatch.setattr(StoredRun, "predictions", moved)
    with pytest.raises(ValueError, match="not written: its probabilities differ from .* by up to 0.01"):
        export(run, tmp_path / "out.onnx")
    assert not list(tmp_path.glob("*.onnx"))


@pytest.mark.long
def test_a_large_model_is_two_files_or_none(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.onnx._internal.exporter._onnx_program._LARGE_MODEL_THRESHOLD", 100)
    out = tmp_path / "out"
    out.mkdir()
    with monkeypatch.context() as patched:
        patched.setattr("cellpatch.inference.export.TOLERANCE", -1.0)
        with pytest.raises(ValueError, match="not written"):
            export(run, out / "large.onnx")
    assert not list(out.iterdir())
    export(run, out / "large.onnx")
    assert sorted(file.name for file in out.iterdir()) == ["large.onnx", "large.onnx.data"]
    moved = tmp_path / "moved"
    out.rename(moved)
    [got] = onnxruntime.InferenceSession(moved / "large.onnx").run(None, {"crops": np.zeros((2, 16, 16, 3), np.uint8)})
    np.testing.assert_allclose(got.sum(axis=1), 1, atol=1e-5)


@pytest.mark.long
def test_paths_that_cannot_be_written_are_reported(run: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "taken.onnx").mkdir()
    for module, arguments in (
        ("predict", [images, "--out", tmp_path / "taken.onnx"]),
        ("export", [tmp_path / "taken.onnx"]),
    ):
        process = start_python("-m", f"cellpatch.{module}", str(run), *map(str, arguments))
        _, output = process.communicate(timeout=300)
        assert process.returncode == 1
        assert "error: " in output
        assert "Traceback" not in output


@pytest.mark.long
def test_stores_of_other_versions_do_not_matter(run: Path, tmp_path: Path) -> None:
    (tmp_path / "stores" / "aaa-old").mkdir()
    (tmp_path / "stores" / "aaa-old" / "manifest.json").write_text('{"format_version": 0}')
    assert "the run's predictions of" in export(run, tmp_path / "out.onnx")


@pytest.mark.long
def test_a_card_waits_for_who_writes_the_record(run: Path) -> None:
    options = [str(run), "--engines", "eager", "--seconds", "0.01", "--threads", "1"]
    timing = Thread(target=latency_command.main, args=(options,))
    with run_lock(run.parent, read_record(run)["identity"]):
        timing.start()
        timing.join(timeout=8)
        assert timing.is_alive()
        replace_record(run, read_record(run) | {"note": "an evaluation"})
        assert "latency" not in read_record(run)
    timing.join(timeout=120)
    assert read_record(run).keys() >= {"latency", "note"}


@pytest.mark.long
def test_a_card_joins_the_record(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = read_record(run)
    latency_command.main([str(run), "--engines", "eager,onnx", "--seconds", "0.02", "--threads", "1"])
    record: dict[str, Any] = read_record(run)
    card = record.pop("latency")
    assert record == before
    assert card["hardware"]["threads"] == 1
    assert card["parameters"] == sum(p.numel() for p in restore(run).network.parameters())
    for rows in card["engines"].values():
        assert rows[0]["batch"] == 1
        assert all(0 < row["low"] <= row["ms"] <= row["high"] and row["repeats"] >= 5 for row in rows)
    first = card["engines"]["eager"][0]
    assert first["transfer_ms"] + first["optics_ms"] + first["forward_ms"] == pytest.approx(first["ms"])
    assert "onnx" in capsys.readouterr().out
    assert all(row["peak_mib"] < 500 for row in card["engines"]["eager"]), (
        "what the run needs, not what the imports take"
    )
    assert 0 <= card["onnx_apart"] < 1e-5
    assert card["lacking"] == {}
    with pytest.raises(SystemExit, match="--threads must be >= 1, but got 0"):
        latency_command.main([str(run), "--threads", "0"])
    for options in (["--engines", "eager,magic"], ["--seconds", "inf"], ["--seconds", "nan"]):
        with pytest.raises(SystemExit, match="--engines must be of"):
            latency_command.main([str(run), *options])


@pytest.mark.long
def test_what_is_no_run_keeps_no_other_from_its_card(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = run.with_name("a-damaged-one")
    damaged.mkdir()
    (damaged / "record.json").write_text("{")
    with pytest.raises(SystemExit) as ended:
        latency_command.main([str(run.parent), str(run), "--engines", "eager", "--seconds", "0.01", "--threads", "1"])
    assert ended.value.code == 1
    assert "record.json cannot be read" in capsys.readouterr().err
    assert "latency" in read_record(run)


def test_a_scale_for_crops_is_refused(run: Path, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "crop.png")
    for settings in ({"um_per_px": 0.25}, {"border": "reflect"}):
        with pytest.raises(ValueError, match=r"holds crops, cut already: a scale and a border are for points"):
            predict(run, tmp_path / "crop.png", points=PointOptions(**settings))


def test_repeated_calls_are_timed() -> None:

    taken = latency.repeat(lambda crops: time.sleep(0.004), np.zeros((1, 4, 4, 3), np.uint8), 0.05)
    assert 5 <= len(taken) <= 13
    assert 4 <= np.median(taken) < 20
    started = time.perf_counter()
    assert len(latency.repeat(lambda crops: None, np.zeros((1, 4, 4, 3), np.uint8), 60.0)) == 2000
    assert time.perf_counter() - started < 10, "calls of no length once took time that grew with their square"
    calls = latency.EngineCalls(lambda crops: time.sleep(0.001))
    timings = latency.time_batches(calls, latency.Geometry(8), 0.2, False)
    assert [timing.batch for timing in timings] == [1, 4, 16, 64, 256]
    assert latency.fastest_batch(timings).batch == 256


@pytest.mark.long
def test_compiled_is_timed_or_its_compiler_missed(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, geometry = restore(run).network, latency.Geometry(16)
    monkeypatch.setattr(latency, "BATCHES", (2,))
    card = latency.measure_latency(network, geometry, ["compiled"], 0.01)
    assert [row.batch for row in card.engines["compiled"]] == [2]
    torch.compiler.reset()
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    monkeypatch.setattr("torch._inductor.config.force_disable_caches", True)
    card = latency.measure_latency(network, geometry, ["compiled", "eager"], 0.01)
    assert "No working C++ compiler" in card.not_timed["compiled"]
    assert list(card.engines) == ["eager"]
