"""Predictions as the user's own files: tables with their rows, columns and order, GeoJSON for QuPath."""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import geopandas
import numpy as np
import pandas as pd
import pytest
from conftest import SQUARE_CENTRES, image_of_squares, run_of_squares
from PIL import Image
from stored import read_record, replace_record
from test_deploy import SMALL

from cellpatch.cli import export as export_command
from cellpatch.cli import predict as command
from cellpatch.data.annotations.geojson import features_of
from cellpatch.data.annotations.read import AnnotationFormat, read_annotations
from cellpatch.inference import predict as predict_module
from cellpatch.inference.new_cells import PointOptions
from cellpatch.inference.predict import Prediction, predict
from cellpatch.inference.predicted_files import predicted_features, write_prediction
from cellpatch.inference.qupath import export_qupath
from cellpatch.runtime.progress import Progress


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_of_squares(tmp_path_factory.mktemp("run"), *SMALL)


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    """Two images of six cells: three classes from the left to the right."""
    rng = np.random.default_rng(4)
    for name in "ab":
        image_of_squares(rng).save(tmp_path / f"{name}.png")
    return tmp_path


def _classified(run: Path, source: Path, **options: Any) -> Prediction:
    return predict(run, source, points=PointOptions(um_per_px=0.5, **options))


def _feature(x: float, y: float, **properties: Any) -> dict[str, Any]:
    corners = [[x - 2, y - 2], [x + 2, y - 2], [x + 2, y + 2], [x - 2, y + 2], [x - 2, y - 2]]
    return {
        "type": "Feature",
        "id": f"id-{x}-{y}",
        "geometry": {"type": "Polygon", "coordinates": [corners]},
        "properties": {"objectType": "detection", "name": "n", **properties},
    }


def test_a_table_keeps_its_rows_columns_and_order(run: Path, slides: Path) -> None:
    rows = [(name, x, y, f"{name}{i}") for i, (x, y) in enumerate(SQUARE_CENTRES) for name in "ba"]
    table = (
        pd.DataFrame(rows, columns=["Image", "x", "y", "My note"]).assign(class_=1).rename(columns={"class_": "class"})
    )
    table["Image"] += ".png"
    table.loc[3, ["x", "y"]] = [1, 1]
    table.to_csv(slides / "t.csv", index=False)
    got = _classified(run, slides / "t.csv").table()
    assert list(got.columns[:5]) == ["Image", "x", "y", "My note", "class_given"]
    assert list(got["My note"]) == [row[3] for row in rows]
    assert list(got["left_out"]) == ["its crop leaves the image" if i == 3 else "" for i in range(12)]
    assert got["class"].isna().sum() == got["p_red"].isna().sum() == 1
    alone = _classified(run, slides / "t.csv", border="reflect").table()
    one = table.iloc[[5]].to_csv(slides / "one.csv", index=False)
    assert one is None
    np.testing.assert_allclose(_classified(run, slides / "one.csv").table()["p_red"], alone["p_red"][5:6], atol=1e-6)


@pytest.mark.parametrize("index", ["named", "unnamed", "none"])
def test_a_parquet_table_keeps_types_and_index(run: Path, slides: Path, index: str) -> None:
    table = pd.DataFrame({"image": "a.png", "x": [8.0, 24.0], "y": [8, 8], "n": pd.array([1, None], "Int64")})
    table.index = pd.Index(["k1", "k2"], name="cell_id" if index == "named" else None)
    (table.reset_index(drop=True) if index == "none" else table).to_parquet(slides / "t.parquet")
    write_prediction(_classified(run, slides / "t.parquet"), slides / "out.parquet")
    got = pd.read_parquet(slides / "out.parquet")
    assert list(got.index) == ([0, 1] if index == "none" else ["k1", "k2"])
    assert got.index.name == ("cell_id" if index == "named" else None)
    assert list(got["x"]) == [8.0, 24.0]
    assert got["n"].isna().tolist() == [False, True]
    assert got["class"].notna().all()


def test_geojson_goes_round(run: Path, slides: Path) -> None:
    features = [_feature(x, y, classification={"name": "red", "color": [1, 2, 3]}) for x, y in SQUARE_CENTRES]
    features[1]["properties"]["measurements"] = [{"name": "Area", "value": 3.5}]
    features[2]["properties"]["measurements"] = {"Area": 4.5}
    features[3]["nucleusGeometry"] = {"type": "Point", "coordinates": [1, 2]}
    region = _feature(24, 16, classification={"name": "Tumour"}) | {"id": "region"}
    region["properties"]["objectType"] = "annotation"
    scale_bar = {
        "type": "Feature",
        "geometry": {"type": "LineString", "coordinates": [[0, 0], [9, 0]]},
        "properties": None,
    }
    near = _feature(3, 3) | {"id": "near"}
    document = {"type": "FeatureCollection", "features": [*features, region, scale_bar, near], "crs": "x"}
    (slides / "a.geojson").write_text(json.dumps(document))
    prediction = _classified(run, slides / "a.geojson")
    write_prediction(prediction, slides / "predicted.geojson")
    again = json.loads((slides / "predicted.geojson").read_text())
    assert again["crs"] == "x"
    for before, after in zip(document["features"], again["features"], strict=True):
        assert before.get("id") == after.get("id")
        assert before["geometry"] == after["geometry"]
        assert before.get("nucleusGeometry") == after.get("nucleusGeometry")
    table = prediction.table()
    for row, after in enumerate(again["features"][:6]):
        properties = after["properties"]
        name = table["class"][row]
        assert properties["name"] == "n"
        assert properties["classification"] == {"name": name} | ({"color": [1, 2, 3]} if name == "red" else {})
        measured = properties["measurements"]
        if isinstance(measured, list):
            measured = {each["name"]: each["value"] for each in measured}
            assert measured["Area"] == 3.5
        for class_name in ("blue", "green", "red"):
            assert measured[f"p_{class_name}"] == pytest.approx(table[f"p_{class_name}"][row], abs=1e-6)
    assert again["features"][6]["properties"]["classification"] == {"name": "Tumour"}
    reasons = [each["properties"].get("metadata") for each in again["features"][6:]]
    assert reasons == [
        {"left_out": "a region, not a cell"},
        {"left_out": "not a point or polygon"},
        {"left_out": "its crop leaves the image"},
    ]
    (slides / "predicted.geojson").rename(slides / "a.geojson")
    read = read_annotations(slides, "a.geojson", AnnotationFormat(), lambda image: 0.5)
    assert list(read.table["class"]) == list(table["class"][:6])
    assert list(zip(read.table["x"], read.table["y"], strict=True)) == SQUARE_CENTRES
    frame = geopandas.read_file(slides / "a.geojson")
    assert list(frame.geometry.centroid.x[:6]) == [x for x, _ in SQUARE_CENTRES]
    assert len(frame) == 9


def test_points_become_geojson_where_there_is_no_geometry(run: Path, slides: Path) -> None:
    pd.DataFrame(SQUARE_CENTRES, columns=["x", "y"]).to_csv(slides / "t.csv", index=False)
    prediction = _classified(run, slides / "t.csv", slide=slides / "a.png")
    write_prediction(prediction, slides / "out.geojson.gz")
    document = json.loads(gzip.decompress((slides / "out.geojson.gz").read_bytes()))
    assert [tuple(each["geometry"]["coordinates"]) for each in document["features"]] == SQUARE_CENTRES
    assert [each["properties"]["classification"]["name"] for each in document["features"]] == list(
        prediction.table()["class"]
    )
    pd.DataFrame([("a.png", 8, 8), ("b.png", 8, 8)], columns=["image", "x", "y"]).to_csv(
        slides / "two.csv", index=False
    )
    with pytest.raises(ValueError, match="GeoJSON is for the points of one image"):
        list(predicted_features(_classified(run, slides / "two.csv")))


def test_a_feature_of_several_cells_gets_their_mean(run: Path, slides: Path) -> None:
    both = {"type": "Feature", "geometry": {"type": "MultiPoint", "coordinates": SQUARE_CENTRES[:2]}, "properties": {}}
    (slides / "a.geojson").write_text(json.dumps([both]))
    prediction = _classified(run, slides / "a.geojson")
    [feature] = predicted_features(prediction)
    mean = prediction.probabilities.mean(axis=0)
    assert feature["properties"]["measurements"]["p_blue"] == pytest.approx(float(mean[0]), abs=1e-6)


@pytest.mark.parametrize("shape", ["collection", "list", "feature"])
def test_a_document_keeps_its_shape_and_is_not_changed(run: Path, slides: Path, shape: str) -> None:
    features = [_feature(x, y) for x, y in SQUARE_CENTRES[: 1 if shape == "feature" else 6]]
    documents = {"collection": {"features": features, "type": "FeatureCollection", "note": "é"}, "list": features}
    document: Any = documents.get(shape, features[0])
    (slides / "a.geojson").write_text(json.dumps(document))
    prediction = _classified(run, slides / "a.geojson")
    write_prediction(prediction, slides / "out.geojson")
    again = json.loads((slides / "out.geojson").read_text())
    assert type(again) is type(document)
    found = again["features"] if shape == "collection" else again if shape == "list" else [again]
    assert all("classification" in feature["properties"] for feature in found)
    assert shape != "collection" or again["note"] == "é"
    assert list(features_of(prediction.cells.document, "the source")) == (document if shape == "list" else features)
    assert len(geopandas.read_file(slides / "out.geojson")) == len(found) if shape != "list" else True


def test_names_that_are_no_format_are_refused_before_any_work(
    run: Path, slides: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pd.DataFrame(SQUARE_CENTRES, columns=["x", "y"]).to_csv(slides / "t.csv", index=False)
    fixed = [str(run), str(slides / "t.csv"), "--slide", str(slides / "a.png"), "--um-per-px", "0.5", "--out"]
    with pytest.raises(SystemExit, match=r"--out must end with .csv, .*, but got out.xlsx"):
        command.main([*fixed, str(slides / "out.xlsx")])
    command.main([*fixed, str(slides / "out.tsv")])
    shown = capsys.readouterr().out
    assert "out.tsv: 6 cells classified of 6" in shown
    assert len(pd.read_csv(slides / "out.tsv", sep="\t")) == 6


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.geojson", "[]", "holds no point, detection or cell to classify among 0 objects"),
        ("a.json", '{"images": [], "annotations": [], "categories": []}', "is a COCO file"),
        ("c.geojson", '[{"geometry": {"type": "Point", "coordinates": [8, 8]}}]', "found no image named c beside it"),
    ],
)
def test_annotation_files_that_cannot_be_classified_say_why(
    run: Path, slides: Path, name: str, content: str, message: str
) -> None:
    (slides / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        _classified(run, slides / name)


def test_labelme_s_shapes_are_classified(run: Path, slides: Path, folder_of_squares: Callable[..., Path]) -> None:
    shapes = [{"label": "?", "points": [[x, y]], "shape_type": "point"} for x, y in SQUARE_CENTRES]
    (slides / "a.json").write_text(json.dumps({"shapes": shapes, "imagePath": "a.png"}))
    assert len(_classified(run, slides / "a.json").rows) == 6


def test_anndata_holds_probabilities_coordinates_and_columns(run: Path, slides: Path) -> None:
    anndata = pytest.importorskip("anndata", reason="asks for pandas < 3")
    table = pd.DataFrame([("a.png", x, y, f"k{i}", "note") for i, (x, y) in enumerate(SQUARE_CENTRES)])
    table.columns = pd.Index(["image", "x", "y", "cell_id", "specimen"])
    table.loc[2, ["x", "y"]] = [1, 1]
    table.to_csv(slides / "t.csv", index=False)
    prediction = _classified(run, slides / "t.csv")
    write_prediction(prediction, slides / "out.h5ad")
    cells = anndata.read_h5ad(slides / "out.h5ad")
    assert list(cells.obs_names) == [f"k{i}" for i in range(6)]
    assert list(cells.var_names) == ["blue", "green", "red"]
    np.testing.assert_array_equal(np.isnan(cells.X).all(axis=1), [False, False, True, False, False, False])
    np.testing.assert_allclose(np.delete(cells.X, 2, axis=0), prediction.probabilities, atol=1e-6)
    np.testing.assert_array_equal(cells.obsm["spatial"], table[["x", "y"]])
    assert list(cells.obs["class"]) == ["" if pd.isna(name) else name for name in prediction.table()["class"]]
    assert set(cells.obs["specimen"]) == {"note"}
    assert cells.obs["left_out"].iloc[2] == "its crop leaves the image"


def test_qupath_s_classifier_gives_the_run_s_probabilities(
    run: Path, slides: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export_command.main([str(run), str(slides / "q.onnx"), "--qupath"])
    assert "OpenCV's probabilities differ from the run's by at most" in capsys.readouterr().out
    classifier = json.loads((slides / "q.json").read_text())
    assert classifier["object_classifier_type"] == "OpenCVModelObjectClassifier"
    assert classifier["model"]["pathModel"] == (slides / "q.onnx").as_uri()
    assert [each["name"] for each in classifier["pathClasses"]] == ["blue", "green", "red"]
    assert (classifier["width"], classifier["height"], classifier["requestedPixelSize"]) == (16, 16, 0.5)
    slide = np.asarray(Image.open(slides / "a.png"))
    net = cv2.dnn.readNet(str(slides / "q.onnx"))
    expected = _classified(run, _table_of(slides)).probabilities
    for (x, y), probabilities in zip(SQUARE_CENTRES, expected, strict=True):
        net.setInput(cv2.dnn.blobFromImage(slide[y - 8 : y + 8, x - 8 : x + 8], 1.0, (16, 16)))
        np.testing.assert_allclose(net.forward().reshape(-1), probabilities, atol=1e-5)


def _table_of(slides: Path) -> Path:
    pd.DataFrame([("a.png", x, y) for x, y in SQUARE_CENTRES], columns=["image", "x", "y"]).to_csv(
        slides / "t.csv", index=False
    )
    return slides / "t.csv"


def test_a_run_without_scale_is_not_for_qupath(run: Path, slides: Path) -> None:
    record = read_record(run)
    copy = slides / run.name
    shutil.copytree(run, copy)
    record["data"]["geometry"]["um_per_px"] = None
    replace_record(copy, record)
    with pytest.raises(ValueError, match="its crops state no scale, and QuPath cuts patches at one"):
        export_qupath(copy, slides / "q.onnx")
    with pytest.raises(ValueError, match=r"must end in .onnx, but got"):
        export_qupath(run, slides / "q.pb")
    assert not list(slides.glob("q.*"))


def _many(slides: Path, count: int = 600) -> Path:
    rng = np.random.default_rng(1)
    rows = [("ab"[i % 2] + ".png", *rng.integers(8, [40, 24])) for i in range(count)]
    rows[7] = ("a.png", 1, 1)
    pd.DataFrame(rows, columns=["image", "x", "y"]).to_csv(slides / "many.csv", index=False)
    return slides / "many.csv"


def test_a_killed_prediction_goes_on_where_it_was(run: Path, slides: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = PointOptions(um_per_px=0.5)
    whole = predict(run, _many(slides), points=points).table()
    monkeypatch.setattr("cellpatch.inference.partial._INTERVAL_S", -1.0)
    monkeypatch.setattr("cellpatch.inference.predict.inference_batch_size", lambda *_: 64)
    calls: list[int] = []
    classify = predict_module.predict_probabilities

    def ends_at_the_fourth(network: Any, crops: np.ndarray) -> np.ndarray:
        calls.append(len(crops))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return classify(network, crops)

    monkeypatch.setattr(predict_module, "predict_probabilities", ends_at_the_fourth)
    partial = slides / ".out.partial"
    with pytest.raises(KeyboardInterrupt):
        predict(run, slides / "many.csv", points=points, partial=partial)
    again = predict(run, slides / "many.csv", points=points, partial=partial)
    assert sum(calls[4:]) == 599 - 3 * 64, "what was done is not done again"
    pd.testing.assert_frame_equal(again.table(), whole)
    predict(run, slides / "many.csv", points=PointOptions(um_per_px=0.5, border="drop"), partial=partial)
    assert sum(calls[4:]) == 2 * 599 - 3 * 64, "other options begin anew"
    again.finish()
    assert not partial.exists()


def test_crops_that_processes_cut_are_the_same(run: Path, slides: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = _classified(run, _many(slides))
    monkeypatch.setattr("cellpatch.inference.cutting._WORTH_PROCESSES", 0)
    monkeypatch.setattr("cellpatch.inference.predict.available_workers", lambda: 2)
    pd.testing.assert_frame_equal(_classified(run, slides / "many.csv").table(), alone.table())


def test_progress_says_cells_per_second_and_what_is_left(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    times = iter([0.0, 1.0, 10.0])
    monkeypatch.setattr("cellpatch.runtime.progress.time.monotonic", lambda: next(times))
    progress = Progress("classified", 1000, 100)
    progress.show(150)
    progress.show(400)
    assert [record.getMessage() for record in caplog.records] == ["classified 400 of 1000 cells, 30 cells/s, 20 s left"]
