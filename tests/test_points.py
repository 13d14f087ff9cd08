"""The `points` source: cutting crops, annotation layouts, scales, and what is wrong with people's files."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cellpatch.data.annotations.geojson import centres
from cellpatch.data.annotations.read import AnnotationFormat, read_annotations
from cellpatch.data.annotations.shapes import as_ring, centroid
from cellpatch.data.images.crops import LEAVES, TRANSPARENT, Border, Crop, CropSpec, cut
from cellpatch.data.images.readers import ArrayReader
from cellpatch.data.sources import points
from cellpatch.data.sources.points import Points
from cellpatch.data.store.reader import CellStore, Geometry

RGB = np.random.default_rng(3).integers(0, 256, (60, 80, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> ArrayReader:
    file = tmp_path_factory.mktemp("plane") / "tile.png"
    Image.fromarray(RGB).save(file)
    return ArrayReader(file)


@given(x=st.integers(0, 79), y=st.integers(0, 59), crop=st.integers(4, 12), margin=st.integers(0, 5))
def test_a_crop_is_a_slice_or_nothing(plane: ArrayReader, x: int, y: int, crop: int, margin: int) -> None:
    side = crop + 2 * margin
    left, top = round(x - side / 2), round(y - side / 2)  # of two equally near the even one

    def cut_here(border: Border) -> Crop | str:
        return cut(plane, x, y, CropSpec(crop, margin, 0.25, False, border), 1.0)

    got = cut_here("drop")
    if left < 0 or top < 0 or left + side > 80 or top + side > 60:
        assert got == LEAVES
        padded = np.pad(RGB, ((40, 40), (40, 40), (0, 0)), mode="reflect")
        expected = padded[top + 40 : top + 40 + side, left + 40 : left + 40 + side]
        mirrored = max(-left, -top, left + side - 80, top + side - 60)
        reflected = cut_here("reflect")
        assert isinstance(reflected, Crop)
        np.testing.assert_array_equal(reflected.pixels, expected)
        assert reflected.mirrored_px == mirrored
        of_margin = cut_here("reflect_margin")
        if mirrored <= margin:
            assert isinstance(of_margin, Crop)
            np.testing.assert_array_equal(of_margin.pixels, expected)
        else:
            assert of_margin == LEAVES
    else:
        assert isinstance(got, Crop)
        assert got.mirrored_px == 0
        np.testing.assert_array_equal(got.pixels, RGB[top : top + side, left : left + side])


def test_a_coarser_scale_halves_the_image(tmp_path: Path) -> None:
    ramp = np.repeat(np.arange(80, dtype=np.uint8)[None, :, None] * 3, 60, axis=0).repeat(3, axis=2)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    cut_out = cut(ArrayReader(tmp_path / "ramp.png"), 40, 30, CropSpec(8, 0, 0.5, True, "drop"), 2.0)
    assert isinstance(cut_out, Crop)
    crop = cut_out.pixels
    assert crop.shape == (8, 8, 3)  # covers columns 32 to 47, two by two
    expected = ramp[0, 32:48, 0].reshape(8, 2).mean(axis=1)
    np.testing.assert_allclose(crop[4, 2:6, 0], expected[2:6], atol=1)


def test_centroids() -> None:
    square = [[10.0, 20.0], [14.0, 20.0], [14.0, 26.0], [10.0, 26.0], [10.0, 20.0]]
    assert centroid(as_ring(square)) == pytest.approx((12.0, 23.0))
    far = [[x + 1e6, y + 1e6] for x, y in square]
    assert centroid(as_ring(far)) == pytest.approx((1e6 + 12, 1e6 + 23), abs=1e-6)
    l_shape = [[0.0, 0.0], [4.0, 0.0], [4.0, 2.0], [2.0, 2.0], [2.0, 4.0], [0.0, 4.0]]
    assert centroid(as_ring(l_shape)) == pytest.approx((5 / 3, 5 / 3))
    assert centroid(as_ring([[1.0, 1.0], [3.0, 3.0]])) == pytest.approx((2.0, 2.0))
    bow_tie = [[100, 100], [110, 110], [110, 100], [100, 110.01], [100, 100]]
    assert centroid(as_ring(bow_tie)) == pytest.approx((105, 105.005)), "the shoelace formula gives -3230"


def _tiles(folder: Path, count: int = 6, side: int = 64) -> Path:
    """Tiles with squares of class a (red) and b (blue), and their points."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for tile in range(count):
        image = np.full((side, side, 3), 200, np.uint8)
        for i, (x, y) in enumerate([(16, 16), (48, 16), (16, 48), (48, 48), (2, 2)]):
            image[y - 3 if y > 3 else 0 : y + 3, x - 3 if x > 3 else 0 : x + 3, 0 if i % 2 else 2] = 20
            rows.append((f"tile{tile}.png", x, y, "ab"[i % 2]))
        Image.fromarray(image).save(folder / f"tile{tile}.png")
    pd.DataFrame(rows, columns=["image", "x", "y", "class"]).to_csv(folder / "points.csv", index=False)
    return folder


def _points(root: Path, **changes: Any) -> Points:
    settings: dict[str, Any] = {
        "root": str(root),
        "points": str(root / "points.csv"),
        "layout": "auto",
        "pixel_origin": "edge",
        "slide_origin": "auto",
        "polygons": "auto",
        "class_names": None,
        "classes": None,
        "specimen_pattern": None,
        "specimens": None,
        "image_um_per_px": 0.5,
        "um_per_px": None,
        "orientation": "refuse",
        "scene": None,
        "field_um": 4.0,
        "margin_um": 1.0,
        "border": "drop",
        "contradictions": "refuse",
        "licence": "none",
        "synthetic": False,
    }
    return Points(**settings | changes)


def _read(root: Path, points: str, layout: str = "auto") -> pd.DataFrame:
    return read_annotations(root, points, AnnotationFormat(layout), lambda image: 0.25).table


def _fill(tmp_path: Path, source: Points) -> CellStore:
    folder = tmp_path / "filled"
    folder.mkdir(parents=True)
    source.fill(folder)
    return CellStore(folder)


def test_table_of_points(tmp_path: Path) -> None:
    store = _fill(tmp_path, _points(_tiles(tmp_path / "t")))
    assert store.geometry == Geometry(8, 2, 0.5)
    assert store.manifest.counts == {"a": 12, "b": 12}
    assert store.manifest.dropped == {LEAVES: 6}
    assert sorted(store.cells["specimen"].unique()) == [f"tile{i}" for i in range(6)]
    tile = np.asarray(Image.open(tmp_path / "t" / "tile0.png"))
    np.testing.assert_array_equal(store.crops(np.array([0]))[0], tile[10:22, 10:22])
    assert store.cells["source"][0] == "points.csv, row 2"


def test_reflecting_keeps_all(tmp_path: Path) -> None:
    store = _fill(tmp_path, _points(_tiles(tmp_path / "t"), border="reflect"))
    assert store.manifest.dropped == {}
    assert len(store) == 30


def test_scale_of_the_store(tmp_path: Path) -> None:
    store = _fill(tmp_path, _points(_tiles(tmp_path / "t"), image_um_per_px=0.25, um_per_px=0.5, field_um=4.0))
    assert store.geometry == Geometry(8, 2, 0.5)  # 24 px of the image become 12


def test_parquet_specimens_and_cell_ids(tmp_path: Path) -> None:
    root = _tiles(tmp_path / "t")
    table = pd.read_csv(root / "points.csv")
    table["specimen"] = [f"patient{i % 3}" for i in range(len(table))]
    table["cell_id"] = [f"c{i}" for i in range(len(table))]
    table.to_parquet(root / "points.parquet")
    store = _fill(tmp_path, _points(root, points=str(root / "points.parquet")))
    assert set(store.cells["specimen"]) == {"patient0", "patient1", "patient2"}
    assert "c0" in set(store.cells["cell_id"])


def test_endonuke_layout(tmp_path: Path) -> None:
    root = _tiles(tmp_path / "t" / "sub" / "images").parents[1]
    labels = root / "sub" / "labels"
    labels.mkdir()
    table = pd.read_csv(root / "sub" / "images" / "points.csv")
    for image, rows in table.groupby("image"):
        lines = [f"{r.x} {r.y} {'ab'.index(r['class'])}" for _, r in rows.iterrows()]
        (labels / str(image).replace(".png", ".txt")).write_text("\n".join(lines) + "\n")
    source = _points(root, points="*/labels/*.txt", layout="endonuke", class_names={0: "a", 1: "b"})
    assert _fill(tmp_path, source).manifest.counts == {"a": 12, "b": 12}
    (labels / "tile0.txt").write_text("1 2\n")
    with pytest.raises(ValueError, match=r"sub/labels/tile0.txt, row 1: must be 'x y class', but got '1 2'"):
        _read(root, "*/labels/*.txt", "endonuke")


def test_viewer_layout_in_shift_jis(tmp_path: Path) -> None:
    root = tmp_path / "slides"
    for slide in range(3):
        _tiles(root / f"slide{slide}", count=1)
        rows = ["16\t16\tリンパ球\t0.9\t#ff0000\t1", "48\t16\tCD8\t0.8\t#00ff00\t1"]
        (root / f"slide{slide}" / "annotation.csv").write_bytes("\r\n".join(rows).encode("cp932"))
    store = _fill(tmp_path, _points(root, points="*/annotation.csv", layout="viewer"))
    assert store.manifest.counts == {"CD8": 3, "リンパ球": 3}
    assert len(store.cells["specimen"].unique()) == 3


def test_qupath_geojson(tmp_path: Path) -> None:
    root = _tiles(tmp_path / "t", count=1)

    def feature(kind: str, coordinates: Any, name: str) -> dict[str, Any]:
        return {
            "type": "Feature",
            "geometry": {"type": kind, "coordinates": coordinates},
            "properties": {"objectType": "detection", "classification": {"name": name}},
        }

    square = [[45.0, 13.0], [52.0, 13.0], [52.0, 20.0], [45.0, 20.0], [45.0, 13.0]]
    features = [
        feature("Point", [16.5, 16.5], "a"),
        feature("MultiPoint", [[16.5, 48.5], [20.5, 48.5]], "a"),
        feature("Polygon", [square], "b"),
        feature("MultiPolygon", [[[[53.0, 13.0], [54.0, 13.0], [54.0, 14.0]]], [square]], "b"),
    ]
    features[1]["properties"]["classification"] = {"names": ["a"]}
    document = {"type": "FeatureCollection", "features": features}
    (root / "tile0.geojson").write_text(json.dumps(document))
    table = _read(root, "tile0.geojson")
    assert list(zip(table["x"], table["y"], strict=True)) == [
        (16.5, 16.5),
        (16.5, 48.5),
        (20.5, 48.5),
        (48.5, 16.5),
        (48.5, 16.5),
    ]
    assert list(table["class"]) == ["a", "a", "a", "b", "b"]
    assert table["cell_id"].is_unique
    with pytest.raises(ValueError, match=r"row 3: geometry must be Point"):
        centres({"type": "LineString", "coordinates": []}, "tile0.geojson, row 3")
    (root / "tile0.geojson").write_text(json.dumps(feature("Point", [0.3, 7], "a")))
    table = _read(root, "tile0.geojson")
    assert (table["x"][0], table["y"][0], table["class"][0]) == (0.3, 7, "a")
    for broken in (
        None,
        feature("Polygon", [[]], "a"),
        feature("Point", ["left", 1], "a"),
        feature("Point", None, "a"),
    ):
        (root / "tile0.geojson").write_text(json.dumps([broken]))
        with pytest.raises(ValueError, match=r"tile0.geojson, row 1: (malformed|must be a GeoJSON feature)"):
            _read(root, "tile0.geojson")


def test_geojson_is_never_paired_with_another_image(tmp_path: Path) -> None:
    root = _tiles(tmp_path / "t", count=1)
    (root / "tile1.geojson").write_text("[]")
    with pytest.raises(
        ValueError, match=r"tile1.geojson: found no image named tile1 beside it or below .*; there are 1 images"
    ):
        _read(root, "tile1.geojson")


def test_annotations_are_found_however_root_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = _tiles(tmp_path / "t", count=1)
    point = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [5, 5]}}
    point["properties"] = {"classification": {"name": "a"}}
    (root / "tile0.geojson").write_text(json.dumps([point]))
    monkeypatch.chdir(tmp_path)
    for top, where in ((root, "t/tile0.geojson"), (Path("t"), str(root / "tile0.geojson")), (Path("t"), "*.geojson")):
        assert _read(top, where)["where"][0] == "tile0.geojson, row 1"
    (tmp_path / "tile0.geojson").write_text(json.dumps([point]))
    assert _read(Path("t"), "tile0.geojson")["image"][0] == "tile0.png", "found by its name below the root"


def test_viewer_needs_one_image_in_its_folder(tmp_path: Path) -> None:
    root = _tiles(tmp_path / "t", count=2)
    (root / "annotation.csv").write_text("1\t2\ta\t0\tx\t1\n")
    with pytest.raises(ValueError, match=r"needs exactly one image in its folder, but found 2"):
        _read(root, "annotation.csv", "viewer")


def test_one_image_is_one_specimen_however_it_is_written(tmp_path: Path) -> None:
    root = _tiles(tmp_path / "t")
    table = pd.read_csv(root / "points.csv")
    table.loc[::2, "image"] = [str(root / name) for name in table.loc[::2, "image"]]
    table.loc[1::4, "image"] = ["./" + name for name in table.loc[1::4, "image"]]
    table["class"] = " " + table["class"] + " "
    table.to_csv(root / "points.csv", index=False)
    store = _fill(tmp_path, _points(root))
    assert sorted(store.cells["specimen"].unique()) == [f"tile{i}" for i in range(6)]
    assert store.manifest.classes == ["a", "b"]


def test_links_below_root_are_followed_and_dots_are_not(tmp_path: Path) -> None:
    root = _tiles(tmp_path / "t")
    elsewhere = tmp_path / "elsewhere.png"
    (root / "tile0.png").rename(elsewhere)
    (root / "tile0.png").symlink_to(elsewhere)
    assert _fill(tmp_path, _points(root)).manifest.counts == {"a": 12, "b": 12}


def test_another_order_of_rows_is_another_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = _tiles(tmp_path / "t")
    reads = []
    read = points.read_annotations
    monkeypatch.setattr(points, "read_annotations", lambda *a: (reads.append(1), read(*a))[1])
    first = _points(root).describe()
    assert _points(root).describe() == first
    assert len(reads) == 1, "files that stay as they are are read once in a process"
    assert _points(root, class_names={"a": "c"}).describe()["rows"] != first["rows"]
    pd.read_csv(root / "points.csv").iloc[::-1].to_csv(root / "points.csv", index=False)
    assert _points(root).describe() != first


def test_tables_of_which_one_has_no_specimen(tmp_path: Path) -> None:
    root = _tiles(tmp_path / "t")
    table = pd.read_csv(root / "points.csv")
    half = len(table) // 2
    table[:half].assign(specimen="p1").to_csv(root / "half1.csv", index=False)
    table[half:].to_csv(root / "half2.csv", index=False)
    with pytest.raises(ValueError, match=r"half2.csv, row 2: column 'specimen' is empty"):
        _fill(tmp_path, _points(root, points="half*.csv"))


def test_images_of_several_specimens_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """P1 and p1 are one patient to people and two to a split, whose crops may share pixels."""
    root = _tiles(tmp_path / "t")
    table = pd.read_csv(root / "points.csv").assign(specimen=lambda t: t["image"])
    table.to_csv(root / "points.csv", index=False)
    _points(root).describe()
    assert "several specimens" not in caplog.text
    table.loc[table.index[:2], "specimen"] = ["P1", "p1"]
    table.to_csv(root / "points.csv", index=False)
    _points(root).describe()
    assert "images with cells of several specimens: 1 (tile0.png)" in caplog.text


def test_parquet_numbers_as_specimens_and_classes(tmp_path: Path) -> None:
    root = _tiles(tmp_path / "t")
    table = pd.read_csv(root / "points.csv")
    table["specimen"] = [i % 3 for i in range(len(table))]
    table["class"] = [i % 2 for i in range(len(table))]
    table.to_parquet(root / "points.parquet")
    store = _fill(tmp_path, _points(root, points=str(root / "points.parquet")))
    assert store.manifest.classes == ["0", "1"]
    assert set(store.cells["specimen"]) == {"0", "1", "2"}
    table["specimen"] = table["specimen"].astype("Int64").where(table.index != 4)
    table.to_parquet(root / "points.parquet")
    with pytest.raises(ValueError, match=r"points.parquet, row 6: column 'specimen' is empty"):
        _points(root, points=str(root / "points.parquet")).fill(tmp_path)


def test_tables_of_many_folders(tmp_path: Path) -> None:
    for name in "xyz":
        folder = _tiles(tmp_path / "t" / name)
        table = pd.read_csv(folder / "points.csv")
        table["image"] = name + "/" + table["image"]
        table.to_csv(folder / "points.csv", index=False)
    store = _fill(tmp_path, _points(tmp_path / "t", points="*/points.csv"))
    assert len(store) == 72
    assert store.cells["source"][0] == "x/points.csv, row 2"


def test_rows_are_counted_as_an_editor_does(tmp_path: Path) -> None:
    root = _tiles(tmp_path / "t")
    lines = (root / "points.csv").read_text().splitlines()
    (root / "points.csv").write_text("\n".join([*lines[:2], "", "", *lines[2:4], "tile0.png,-3,1,a", "", ""]) + "\n")
    with pytest.raises(ValueError, match=r"points.csv, row 7: x must be a number >= 0 in pixels, but got -3"):
        _read(root, "points.csv", "table")
    (root / "points.csv").write_text("\n".join([*lines[:3], "tile0.png,1,2,a,extra"]))
    with pytest.raises(ValueError, match=r"points.csv: cannot be read as a table \(row 4 has 5 fields, the header 4\)"):
        _read(root, "points.csv", "table")
    (root / "points.csv").write_text("image,x,y,x,class\ntile0.png,1,2,3,a\n")
    with pytest.raises(ValueError, match=r"columns \['x'\] come twice"):
        _read(root, "points.csv", "table")


@pytest.mark.long
def test_memory_of_one_image_with_many_points_is_bounded(tmp_path: Path) -> None:
    root = _tiles(tmp_path / "t", count=1)
    rows = [("tile0.png", 20 + i % 20, 20 + i % 24, "ab"[i % 2]) for i in range(6000)]
    pd.DataFrame(rows, columns=["image", "x", "y", "class"]).to_csv(root / "points.csv", index=False)
    source = _points(root, field_um=10.0, margin_um=2.0)
    folder = tmp_path / "filled"
    folder.mkdir(parents=True)
    assert len(source.table) == 6000
    tracemalloc.start()
    source.fill(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    crop_bytes = 28 * 28 * 3
    assert peak < 2**26 + 3 * 256 * crop_bytes + 8_000_000  # a shard, some chunks, the table


def _edit(column: str, row: int, value: Any) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def edit(table: pd.DataFrame) -> pd.DataFrame:
        table = table.astype(object)
        table.loc[row - 2, column] = value
        return table

    return edit


@pytest.mark.parametrize(
    ("edit", "changes", "message"),
    [
        (_edit("x", 5, float("nan")), {}, r"points.csv, row 5: column 'x' is empty"),
        (_edit("x", 5, -1), {}, r"points.csv, row 5: x must be a number >= 0 in pixels, but got -1"),
        (_edit("y", 7, "left"), {}, r"points.csv, row 7: y must be a number >= 0 in pixels, but got left"),
        (_edit("y", 7, "inf"), {}, r"points.csv, row 7: y must be a number"),
        (_edit("x", 3, 5000), {}, r"points.csv, row 3: x=5000.0 y=16.0 is outside tile0.png \(64x64 px\)"),
        (_edit("class", 4, "c"), {"classes": ["a", "b"]}, r"points.csv, row 4: unknown class 'c'"),
        (_edit("image", 4, "../../etc.png"), {}, r"points.csv, row 4: '../../etc.png' points outside"),
        (_edit("image", 4, "gone.png"), {}, r"points.csv, row 4: .*gone.png: no such image"),
        (
            lambda t: t.assign(specimen=["s"] * 7 + [" "] + ["s"] * 22),
            {},
            r"points.csv, row 9: column 'specimen' is empty",
        ),
        (lambda t: t.drop(columns="y"), {}, r"points.csv: has no column \['y'\]; needed are"),
        (lambda t: t.iloc[:0], {}, r"points.csv: has no rows"),
        (
            lambda t: t.assign(cell_id="same"),
            {},
            r"row 3: duplicate cell_id 'same', first seen at points.csv, row 2",
        ),
        (
            lambda t: t,
            {"image_um_per_px": None},
            r"tile0.png: does not state its scale; set data.image_um_per_px",
        ),
        (lambda t: t, {"field_um": -1.0}, r"data.field_um must be a length in micrometres, but got -1.0"),
        (lambda t: t, {"layout": "xml"}, r"data.layout must be one of .* but got 'xml'"),
        (lambda t: t, {"specimen_pattern": "case(.)"}, r"points.csv, row 2: .* finds no specimen in tile0.png"),
        (lambda t: t, {"specimen_pattern": "tile."}, r"needs a group in parentheses"),
        (lambda t: t, {"specimen_pattern": "("}, r"is not a regular expression"),
        (lambda t: t, {"image_um_per_px": 0.0}, r"must be > 0, but got 0.0"),
        (lambda t: t, {"points": "none.csv"}, r"no file none.csv"),
        (lambda t: t, {"root": Path("/nowhere")}, r"data.root must be a folder, but got /nowhere"),
    ],
)
def test_bad_points_name_file_and_row(
    tmp_path: Path, edit: Callable[[pd.DataFrame], pd.DataFrame], changes: dict[str, Any], message: str
) -> None:
    root = _tiles(tmp_path / "t")
    edit(pd.read_csv(root / "points.csv")).to_csv(root / "points.csv", index=False)
    with pytest.raises(ValueError, match=message):
        _fill(tmp_path, _points(**{"root": root, **changes}))


def test_all_bad_tiles_in_one_error(tmp_path: Path) -> None:
    root = _tiles(tmp_path / "t")
    for i in (0, 3, 4):
        (root / f"tile{i}.png").write_bytes(b"")
    with pytest.raises(ValueError, match="3 problems in the input") as caught:
        _fill(tmp_path, _points(root))
    assert all(f"tile{i}.png: is empty" in str(caught.value) for i in (0, 3, 4))


@pytest.mark.long
def test_real_endonuke(tmp_path: Path, endonuke: Path) -> None:
    """27,015 points; the store's cells are slices of the tiles, and the text files equal points.csv."""
    source = _points(
        endonuke,
        points="*/labels/*.txt",
        layout="endonuke",
        class_names={0: "stroma", 1: "epithelium", 2: "other"},
        specimen_pattern="([^/ .]+)[^/]*$",
        image_um_per_px={"endonuke_data": 0.5, "staining_ds": 0.25},
        um_per_px=0.5,
        field_um=10.0,
        margin_um=3.2,
    )
    store = _fill(tmp_path, source)
    assert len(source.table) == 27_015
    assert len(store) + store.manifest.dropped[LEAVES] + store.manifest.dropped[TRANSPARENT] == 27_015
    assert store.geometry == Geometry(20, 7, 0.5)
    table = pd.read_csv(endonuke / "points.csv")
    assert source.table["class"].value_counts().to_dict() == table["class_name"].value_counts().to_dict()
    cell = store.cells[store.cells["specimen"] == "1010"].iloc[0]
    tile = np.asarray(Image.open(endonuke / "endonuke_data" / "images" / "1010.png").convert("RGB"))
    x, y = int(cell["x"]), int(cell["y"])
    index = np.array([cell.name])
    np.testing.assert_array_equal(store.crops(index)[0], tile[y - 17 : y + 17, x - 17 : x + 17])


def test_several_processes_cut_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = _tiles(tmp_path / "t")
    alone = _fill(tmp_path / "alone", _points(root))
    monkeypatch.setattr("cellpatch.data.sources.points._WORTH_PROCESSES", 0)
    monkeypatch.setattr("cellpatch.data.sources.points.available_workers", lambda: 2)
    shared = _fill(tmp_path / "shared", _points(root))
    assert shared.manifest == alone.manifest
    (root / "tile2.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"1 problem in the input:\n.*tile2.png: cannot be read as an image"):
        _fill(tmp_path / "broken", _points(root))
