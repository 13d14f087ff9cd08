"""Inputs as people have them: each is read rightly, or refused by name, and what is left out is counted."""

import gzip
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pandas as pd
import pytest
import tifffile
import zarr
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_crop_sources import _folder, _npz, _store, _table
from test_points import _fill, _points

from cellpatch.cli.overrides import prepare_overrides
from cellpatch.config.schema import compose_config
from cellpatch.data.annotations.shapes import as_ring, centroid
from cellpatch.data.class_names import clean_name, is_missing, join_names
from cellpatch.data.images.crops import Crop, CropSpec, cut
from cellpatch.data.images.pixels import ImageOptions, read_rgb, turned
from cellpatch.data.images.readers import ArrayReader, open_slide
from cellpatch.data.sources.point_checks import MICROMETRES
from cellpatch.data.sources.source import files_fingerprint
from cellpatch.data.store.intake import Intake
from cellpatch.data.store.reader import CellStore
from cellpatch.runs.table import runs_table
from cellpatch.sweeps.train import train


def coded(width: int, height: int) -> np.ndarray:
    """An image each of whose pixels says where it is: red x, green y (both modulo 256), blue the rest."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x % 256, y % 256, 16 * (x // 256) + y // 256], -1).astype(np.uint8)


def where(pixel: np.ndarray) -> tuple[int, int]:
    red, green, blue = (int(value) for value in pixel)
    return red + 256 * (blue // 16), green + 256 * (blue % 16)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(coded(250, 240)).save(folder / "a.png")
    return folder


def feature(kind: str, coordinates: Any, name: object = "A", **properties: Any) -> dict[str, Any]:
    properties = {"objectType": "detection", "classification": {"name": name}} | properties
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": properties}


def square(x: float, y: float, radius: float = 5) -> list[list[list[float]]]:
    low, high, left, right = y - radius, y + radius, x - radius, x + radius
    return [[[left, low], [right, low], [right, high], [left, high], [left, low]]]


def read_geojson(root: Path, features: list[Any], **changes: Any) -> CellStore:
    (root / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return read_points(root, "a.geojson", **changes)


def read_points(root: Path, points: str, **changes: Any) -> CellStore:
    import shutil

    shutil.rmtree(root.parent / "filled", ignore_errors=True)
    fixed = {"points": points, "image_um_per_px": 0.25, "field_um": 10.0, "margin_um": 0.0, "border": "reflect_margin"}
    return _fill(root.parent, _points(root, **fixed | changes))


def read_rows(root: Path, rows: list[tuple[Any, ...]], columns: str = "image x y class", **changes: Any) -> CellStore:
    pd.DataFrame(rows, columns=columns.split()).to_csv(root / "t.csv", index=False)
    return read_points(root, "t.csv", **changes)


TWO = [("a.png", 50, 60, "A"), ("a.png", 80, 90, "B")]


# Where a point is


@settings(max_examples=200)
@given(x=st.floats(0, 250), y=st.floats(0, 240), crop=st.integers(8, 61), scale=st.sampled_from([1.0, 0.5, 2.0, 1.37]))
def test_the_crop_s_centre_is_the_point(
    tmp_path_factory: pytest.TempPathFactory, x: float, y: float, crop: int, scale: float
) -> None:
    slide = _ramp()
    cut_out = cut(slide, x, y, CropSpec(crop, 0, 1.0, True, "drop"), scale)
    side = crop * scale
    if min(x, y, 250 - x, 240 - y) > side / 2 + 1:
        assert isinstance(cut_out, Crop)
    if isinstance(cut_out, Crop):
        pixels = cut_out.pixels[2:-2, 2:-2].astype(float)  # a resize mirrors nothing there
        got = pixels[..., 0].mean() + 0.5, pixels[..., 1].mean() + 0.5  # pixel i covers [i, i + 1)
        assert got == pytest.approx((x, y), abs=0.5 + 1e-9 if scale == 1 else 0.5)


def _ramp() -> ArrayReader:
    y, x = np.mgrid[:240, :250]
    reader = ArrayReader.__new__(ArrayReader)
    reader._rgb, reader._opaque = np.stack([x, y, 0 * x], -1).astype(np.uint8), None
    reader.height, reader.width = 240, 250
    return reader


@pytest.mark.parametrize("side", [40, 41])
def test_copied_crops_have_no_bias(side: int) -> None:
    spec = CropSpec(side, 0, 1.0, False, "drop")
    steps = []
    for x in np.arange(60, 180, 0.25):
        crop = cut(_ramp(), x, 100.0, spec, 1.0)
        assert isinstance(crop, Crop)
        steps.append(crop.pixels[0, 0, 0] + side / 2 - x)
    assert np.abs(steps).max() <= 0.5
    assert np.mean(steps) == pytest.approx(0, abs=1e-9)


def test_one_convention_for_all_layouts(root: Path) -> None:
    places = [(50, 60), (50.5, 60.5), (99.2, 120.9), (20, 20), (229.9, 219.6)]
    tables = read_rows(root, [("a.png", x, y, "AB"[i % 2]) for i, (x, y) in enumerate(places)])
    features = [feature("Point", [x, y], "AB"[i % 2]) for i, (x, y) in enumerate(places)]
    geojson = read_geojson(root, features)
    np.testing.assert_array_equal(tables.crops(np.arange(5)), geojson.crops(np.arange(5)))
    centred = read_rows(
        root,
        [("a.png", x - 0.5, y - 0.5, "AB"[i % 2]) for i, (x, y) in enumerate(places)],
        pixel_origin="centre",
    )
    np.testing.assert_array_equal(tables.crops(np.arange(5)), centred.crops(np.arange(5)))
    assert list(tables.cells["x"]) == list(centred.cells["x"]) == [x for x, _ in places]


def test_a_slide_s_points_count_from_its_bounds_as_in_qupath(root: Path) -> None:
    _write_scn(root / "a.scn", 300, 200)
    (root / "a.png").unlink()
    places = [(100, 120), (150, 140), (400, 350), (380, 360)]
    features = [feature("Point", [x + 0.5, y + 0.5], "AB"[i % 2]) for i, (x, y) in enumerate(places)]
    store = read_geojson(root, features)
    assert [where(crop[20, 20]) for crop in store.crops(np.arange(4))] == places
    assert sum("scanned bounds, as in QuPath" in reason for reason in store.manifest.doubtful) == 1
    shifted = [feature("Point", [x + 300.5, y + 200.5], "AB"[i % 2]) for i, (x, y) in enumerate(places)]
    again = read_geojson(root, shifted, slide_origin="slide")
    np.testing.assert_array_equal(again.crops(np.arange(4)), store.crops(np.arange(4)))


def _write_scn(file: Path, left_px: int, top_px: int) -> None:
    """A Leica slide of 512 px whose scan lies in a collection of 2048 px."""
    nm = 250
    view = f'<view sizeX="{512 * nm}" sizeY="{512 * nm}" offsetX="{left_px * nm}" offsetY="{top_px * nm}"/>'
    settings = (
        "<scanSettings><objectiveSettings><objective>{}</objective></objectiveSettings><illuminationSettings>"
        "<numericalAperture>0.6</numericalAperture><illuminationSource>brightfield</illuminationSource>"
        "</illuminationSettings></scanSettings>"
    )
    device = '<creationDate>2012-01-01T00:00:00Z</creationDate><device model="m" version="1"/>'
    whole = f'sizeX="{2048 * nm}" sizeY="{2048 * nm}"'

    def image(name: str, side: int, ifd: int, view: str, objective: str) -> str:
        pixels = f'<dimension sizeX="{side}" sizeY="{side}" r="0" ifd="{ifd}"/>'
        pixels = f'<pixels sizeX="{side}" sizeY="{side}">{pixels}</pixels>'
        return f'<image name="{name}" uuid="{name}">{device}{pixels}{view}{settings.format(objective)}</image>'

    macro = image("macro", 256, 0, f'<view {whole} offsetX="0" offsetY="0"/>', "0.6")
    xml = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">'
        f'<collection name="s" uuid="u" {whole}><barcode>QQ==</barcode>{macro}'
        f"{image('main', 512, 1, view, '40')}</collection></scn>"
    )
    plain = {"photometric": "rgb", "tile": (256, 256), "metadata": None, "software": None}
    with tifffile.TiffWriter(file, bigtiff=True) as writer:
        writer.write(np.full((256, 256, 3), 200, np.uint8), description=xml, **plain)
        writer.write(coded(512, 512), **plain)
    assert openslide.OpenSlide(str(file)).properties["openslide.bounds-x"] == str(left_px)


# What is a cell


def test_regions_are_no_cells_and_are_counted(root: Path) -> None:
    region = feature("Polygon", square(125, 120, 110), "A", objectType="annotation")
    small = feature("Polygon", square(80, 80, 20), "B", objectType="annotation")
    cells = [feature("Polygon", square(60 + 25 * i, 90), "AB"[i % 2], objectType="cell") for i in range(4)]
    store = read_geojson(root, [region, small, *cells])
    assert store.manifest.counts == {"A": 2, "B": 2}
    assert store.manifest.dropped == {"regions (data.polygons=cells makes them cells)": 2}
    points = [feature("Point", [60 + 25 * i, 90], "AB"[i % 2], objectType="annotation") for i in range(4)]
    assert len(read_geojson(root, [region, small, *points])) == 4
    assert len(read_geojson(root, [region, small, *points], polygons="cells")) == 6
    nuclei = [feature("Polygon", square(60 + 25 * i, 90), "AB"[i % 2], objectType="annotation") for i in range(4)]
    store = read_geojson(root, [region, *nuclei])
    assert len(store) == 4, "annotated nuclei are cells, and what is larger than 30 um is none"
    with pytest.raises(ValueError, match=r"holds no classified cells \(left out: 2 regions"):
        read_geojson(root, [region, small], polygons="regions")


def test_each_polygon_of_a_set_is_a_cell_and_pieces_are_one(root: Path) -> None:
    def several(places: list[tuple[int, int]], name: str, kind: str, radius: float = 4) -> dict[str, Any]:
        return feature("MultiPolygon", [square(x, y, radius) for x, y in places], name, objectType=kind)

    a, b = [(50, 50), (80, 60), (120, 70), (150, 90), (180, 180)], [(60, 150), (90, 160), (130, 170), (160, 120)]
    for kind in ("annotation", "detection", "cell"):
        store = read_geojson(root, [several(a, "A", kind), several(b, "B", kind)])
        assert store.manifest.counts == {"A": 5, "B": 4}, kind
    pieces = several([(50, 50), (59, 50)], "A", "detection")
    assert len(read_geojson(root, [pieces, feature("Point", [90, 90], "B")])) == 2


def test_what_is_neither_point_nor_polygon_or_has_no_class_is_counted(root: Path) -> None:
    line = feature("LineString", [[1, 1], [50, 50]], None, objectType="annotation")
    nothing = feature("Point", [70, 70], None) | {"geometry": None}
    bare = feature("Point", [90, 70])
    del bare["properties"]["classification"]
    others = [line, nothing, bare, feature("Point", [100, 70], None), feature("Point", [110, 70], " ")]
    store = read_geojson(root, [feature("Point", [50, 60], "A"), feature("Point", [80, 90], "B"), *others])
    assert store.manifest.dropped == {
        "LineString objects": 1,
        "objects without a geometry": 1,
        "objects without a class": 3,
    }
    with pytest.raises(
        ValueError, match=r"no object has a classification; their properties are \['note', 'objectType'\]"
    ):
        features = [feature("Point", [50, 60], note="x")]
        del features[0]["properties"]["classification"]
        read_geojson(root, features)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"name": "Tumor", "color": [1, 2, 3]}, "Tumor"),
        ({"names": ["CD8", "CD103"]}, "CD8: CD103"),
        ('{ "name": "Tumor", "color": [ 200, 0, 0 ] }', "Tumor"),
        ("Tumor", "Tumor"),
        (1, "1"),
    ],
)
def test_classifications_as_tools_write_them(root: Path, value: Any, expected: str) -> None:
    other = feature("Point", [80, 90], "B")
    store = read_geojson(root, [feature("Point", [50, 60], classification=value), other])
    assert store.manifest.classes == sorted([expected, "B"])


def test_a_classification_that_cannot_be_read_names_the_feature(root: Path) -> None:
    with pytest.raises(ValueError, match=r"a.geojson, row 1: classification is not readable as JSON"):
        read_geojson(root, [feature("Point", [50, 60], classification="{broken")])
    with pytest.raises(ValueError, match=r"a.geojson, row 1: classification must be a name or hold one"):
        read_geojson(root, [feature("Point", [50, 60], classification=["A"])])


# Class names


@given(st.text(max_size=20))
def test_cleaning_a_name_twice_changes_nothing_more(text: str) -> None:
    name = clean_name(text)
    assert clean_name(name) == name
    assert unicodedata.is_normalized("NFC", name)


def test_spellings_of_one_class_are_joined_and_counted() -> None:
    intake = Intake()
    nfd = unicodedata.normalize("NFD", "Épithélium")
    names = ["Épithélium", nfd, "Stroma ", "Stroma", "CD8: CD103", "CD103: CD8", "CD103: CD8", 1, 1.0, "1", "B  x"]
    joined = join_names(names, intake)
    expected = ["Épithélium"] * 2 + ["Stroma"] * 2 + ["CD103: CD8"] * 3 + ["1"] * 3 + ["B x"]
    assert joined == expected
    assert intake.joined[f"cells of class {nfd!r} with 'Épithélium'"] == 1
    assert intake.joined["cells of class 'CD8: CD103' with 'CD103: CD8'"] == 1
    assert intake.joined["cells of class 'Stroma ' with 'Stroma'"] == 1
    assert not intake.doubtful


def test_classes_that_differ_by_case_or_a_dash_stay_and_are_doubtful() -> None:
    intake = Intake()
    assert join_names(["T cell", "t-cell", "T_cell", "B"], intake) == ["T cell", "t-cell", "T_cell", "B"]
    [(reason, count)] = intake.doubtful.items()
    assert "'T cell' and 'T_cell' and 't-cell', which differ only by case" in reason
    assert count == 3


@pytest.mark.parametrize("value", ["nan", "NaN", "None", "null", "NA", "N/A", "<NA>", "", "  ", None, float("nan")])
def test_texts_of_missing_values_are_missing(value: Any, root: Path) -> None:
    assert is_missing(value)
    if isinstance(value, str) and value.strip():
        with pytest.raises(ValueError, match=r"t.csv, row 3: the class is missing \('"):
            read_rows(root, [*TWO[:1], ("a.png", 80, 90, value), ("a.png", 90, 95, "B")])


def test_whole_numbers_as_labels_meet_class_names(root: Path) -> None:
    rows = [("a.png", 50, 60, "1"), ("a.png", 80, 90, "1.0"), ("a.png", 90, 120, "2")]
    store = read_rows(root, rows, class_names={1: "tumour", 2.0: "stroma"})
    assert store.manifest.counts == {"stroma": 1, "tumour": 2}
    table = pd.DataFrame({"image": "a.png", "x": [50.0, 60, 70], "y": 60.0, "class": [1.0, 2.0, 1.0]})
    table.to_parquet(root / "t.parquet")
    assert read_points(root, "t.parquet", class_names={1: "tumour", 2: "stroma"}).manifest.counts == {
        "stroma": 1,
        "tumour": 2,
    }


# The same cell twice


def test_two_classes_at_one_place_are_refused_dropped_or_kept(root: Path) -> None:
    rows = [("a.png", 50, 60, "A"), ("a.png", 50, 60, "B"), ("a.png", 80, 90, "B"), ("a.png", 99, 90, "A")]
    with pytest.raises(ValueError, match=r"t.csv, row 3: class 'B' at x=50 y=60, where t.csv, row 2 has 'A'"):
        read_rows(root, rows)
    dropped = read_rows(root, rows, contradictions="drop")
    assert dropped.manifest.counts == {"A": 1, "B": 1}
    assert dropped.manifest.dropped["cells at one place with two classes"] == 2
    kept = read_rows(root, rows, contradictions="keep")
    assert len(kept) == 4
    assert kept.manifest.doubtful["cells at one place with two classes"] == 2


def test_cells_given_twice_or_too_near_are_counted(root: Path) -> None:
    store = read_rows(root, [*TWO, TWO[0], ("a.png", 82, 90, "A")])
    assert len(store) == 4
    assert store.manifest.doubtful["cells at the place of another of their class"] == 1
    assert store.manifest.doubtful["cells within 1 um of another"] == 2


def test_points_in_micrometres_are_noticed(root: Path) -> None:
    rng = np.random.default_rng(0)
    xy = rng.uniform([21, 21], [62, 60], (60, 2))
    store = read_rows(root, [("a.png", x, y, "AB"[i % 2]) for i, (x, y) in enumerate(xy)], contradictions="keep")
    assert store.manifest.doubtful[MICROMETRES] == 60
    xy = rng.uniform([21, 21], [229, 219], (60, 2))
    store = read_rows(root, [("a.png", x, y, "AB"[i % 2]) for i, (x, y) in enumerate(xy)], contradictions="keep")
    assert MICROMETRES not in store.manifest.doubtful


def test_columns_in_micrometres_are_read(root: Path) -> None:
    columns = "Image,Object ID,Classification,Centroid X \u00b5m,Centroid Y \u03bcm"
    (root / "t.csv").write_text(f"{columns}\na.png,k1,A,12.5,15\na.png,k2,B,20,22.5\n")
    store = read_points(root, "t.csv")
    assert list(store.cells["x"]) == [50, 80]
    assert list(store.cells["y"]) == [60, 90]
    assert list(store.cells["cell_id"]) == ["k1", "k2"]


# Near the border


def test_a_margin_beyond_the_image_is_mirrored_and_flagged(root: Path) -> None:
    rows = [("a.png", 20, 120, "A"), ("a.png", 26, 120, "B"), ("a.png", 125, 120, "A"), ("a.png", 19, 120, "B")]
    store = read_rows(root, rows, margin_um=2.5)
    assert list(store.cells["mirrored_px"]) == [10, 4, 0]
    assert store.manifest.dropped == {"cells whose crop leaves the image": 1}
    crop = store.crops(np.array([0]))[0]
    np.testing.assert_array_equal(crop[10:50, 10:50], coded(250, 240)[100:140, 0:40])
    np.testing.assert_array_equal(crop[:, :10], crop[:, 20:10:-1])
    reason = "cells near the image's border, with mirrored pixels"
    assert store.manifest.doubtful[reason] == 2
    with pytest.raises(ValueError, match=r"no cells of \['B'\] were left"):
        read_rows(root, rows, margin_um=2.5, border="drop")


def test_cells_whose_blur_reaches_mirrored_pixels_are_counted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for patient in range(9):
        Image.fromarray(rng.integers(0, 255, (80, 80, 3), dtype=np.uint8)).save(tmp_path / f"p{patient}.png")
    places = [
        (x, y) for x in (22, 40, 58) for y in (22, 40, 58)
    ]  # 2 px of the margin of 4 are mirrored but in the middle
    rows = [(f"p{patient}.png", x, y, "ab"[i % 2]) for patient in range(9) for i, (x, y) in enumerate(places)]
    pd.DataFrame(rows, columns=["image", "x", "y", "class"]).to_csv(tmp_path / "t.csv", index=False)
    config = compose_config(
        [
            "model=cnn",
            "model.backbone.input_px=16",
            "model.backbone.widths=[8]",
            "data=points",
            f"data.root={tmp_path}",
            f"data.points={tmp_path / 't.csv'}",
            "data.image_um_per_px=0.25",
            "data.margin_um=1",
            f"data.loading.store_dir={tmp_path / 'stores'}",
            f"runs_dir={tmp_path / 'runs'}",
            "flag_limit=8",
            "logger=none",
            "trainer.accelerator=cpu",
            "trainer.max_epochs=1",
            "optics.via_px=null",
            "optics.kind=pre",
            "optics.sigma=[0.4,0.6]",
        ]
    )
    train(config)
    table = runs_table(tmp_path / "runs")
    n_test = 2 * 9  # specimens
    reached = dict(zip(table["sigma"], table["mirrored_cells"], strict=True))
    assert reached == {0.0: 0, 0.4: 0, 0.6: n_test * 8 // 9}
    assert set(table["left_out"]) == {0}
    assert table["doubtful"].iloc[0] >= 72


# Specimens, sites and splits


def test_specimens_come_from_the_path_or_a_table(tmp_path: Path) -> None:
    root = tmp_path / "in"
    rows = []
    for patient in range(3):
        for tile in range(2):
            file = root / f"patient{patient}" / f"tile{tile}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.roll(coded(120, 120), 7 * patient + tile, axis=0)).save(file)
            rows += [(f"patient{patient}/tile{tile}.png", 40 + 20 * i, 60, "AB"[i]) for i in range(2)]
    store = read_rows(root, rows)
    assert len(set(store.cells["specimen"])) == 6
    [reason] = [reason for reason in store.manifest.doubtful if "counts as a specimen" in reason]
    assert store.manifest.doubtful[reason] == 12
    for pattern in (r"(patient\d+)", "^([^/]+)/"):
        store = read_rows(root, rows, specimen_pattern=pattern)
        assert set(store.cells["specimen"]) == {"patient0", "patient1", "patient2"}
        assert not any("counts as a specimen" in reason for reason in store.manifest.doubtful)
    table = pd.DataFrame({"image": [row[0] for row in rows], "specimen": [row[0][:8] for row in rows]})
    table["site"] = ["north" if row[0] < "patient1" else "south" for row in rows]
    table.drop_duplicates("image").to_csv(tmp_path / "specimens.csv", index=False)
    store = read_rows(root, rows, specimens=str(tmp_path / "specimens.csv"))
    assert set(store.cells["specimen"]) == {"patient0", "patient1", "patient2"}
    assert store.cells["site"].value_counts().to_dict() == {"north": 4, "south": 8}
    table[:2].to_csv(tmp_path / "specimens.csv", index=False)
    with pytest.raises(ValueError, match=r"specimens.csv: has no row for the image patient0/tile1.png"):
        read_rows(root, rows, specimens=str(tmp_path / "specimens.csv"))


def test_split_and_site_of_a_table_of_points_are_kept(root: Path) -> None:
    rows = [
        ("a.png", 40 + 20 * i, 60 + 9 * j, "AB"[i % 2], ["train", "validation", "test"][j])
        for i in range(4)
        for j in range(3)
    ]
    store = read_rows(root, [(*row, f"site{i % 2}") for i, row in enumerate(rows)], "image x y class split site")
    assert list(store.cells["split"]) == [row[4] for row in rows]
    assert set(store.cells["site"]) == {"site0", "site1"}
    with pytest.raises(ValueError, match=r"t.csv, row 2: split must be one of .* but got 'dev'"):
        read_rows(root, [(*rows[0][:4], "dev"), *rows[1:]], "image x y class split")


# Class folders


def _tree(root: Path, classes: tuple[str, ...] = ("Tumor", "Stroma"), suffix: str = ".png") -> Path:
    rng = np.random.default_rng(0)
    for name in classes:
        for specimen in ("p1", "p2", "p3"):
            (root / name / specimen).mkdir(parents=True)
            for i in range(2):
                image = Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8))
                image.save(root / name / specimen / f"{i}{suffix}")
    return root


def _noise(seed: int = 9) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (40, 40, 3), dtype=np.uint8))


def test_train_val_and_test_above_the_classes_are_the_split(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        for name in ("Lymphocyte", "Stroma", "Tumor"):
            for i in range(3):
                file = tmp_path / "d" / part / name / f"{i}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                _noise(hash((part, name, i)) % 2**32).save(file)
    store = _store(tmp_path, _folder(tmp_path / "d"))
    assert store.manifest.counts == {"Lymphocyte": 9, "Stroma": 9, "Tumor": 9}
    assert store.cells["split"].value_counts().to_dict() == {"train": 9, "validation": 9, "test": 9}
    assert len(set(store.cells["specimen"])) == 27
    assert store.manifest.doubtful == {"cells that count as a specimen each, for their path names none": 27}
    (tmp_path / "d" / "val").rename(tmp_path / "d" / "extra")
    with pytest.raises(ValueError, match=r"holds the folders extra, test, train, which are only in part a split"):
        _store(tmp_path / "b", _folder(tmp_path / "d"))


def test_what_systems_leave_is_passed_over_and_counted(tmp_path: Path) -> None:
    root = _tree(tmp_path / "d")
    (root / "Tumor" / ".ipynb_checkpoints").mkdir()
    _noise().save(root / "Tumor" / ".ipynb_checkpoints" / "0-checkpoint.png")
    (root / "Tumor" / "p1" / "@eaDir").mkdir()
    _noise().save(root / "Tumor" / "p1" / "@eaDir" / "thumb.jpg")
    (root / "__MACOSX").mkdir()
    _noise().save(root / "__MACOSX" / "x.png")
    (root / "Tumor" / "p1" / "._0.png").write_bytes(b"\0\5\x16\7" + b"\0" * 100)
    (root / "Tumor" / "Thumbs.db").write_bytes(b"x")
    (root / "Tumor" / "notes.txt").write_text("x")
    store = _store(tmp_path, _folder(root))
    assert store.manifest.counts == {"Stroma": 6, "Tumor": 6}
    assert store.manifest.dropped == {"hidden or system files and folders": 5, "files of kind .txt, no images": 1}


@pytest.mark.parametrize("target", ["..", "../..", "p1", "."])
def test_links_to_what_is_read_already_add_nothing(tmp_path: Path, target: str) -> None:
    root = _tree(tmp_path / "d")
    (root / "Tumor" / "all").symlink_to(target)
    store = _store(tmp_path, _folder(root))
    assert store.manifest.counts == {"Stroma": 6, "Tumor": 6}
    assert store.manifest.dropped == {"links to folders that are read already": 1}


@pytest.mark.parametrize("suffix", [".gif", ".jfif", ".jpe"])
def test_classes_of_any_image_kind_are_read(tmp_path: Path, suffix: str) -> None:
    root = _tree(tmp_path / "d", ("Tumor",))
    for i, file in enumerate(_tree(tmp_path / "e", ("Stroma",)).rglob("*.png")):
        target = root / "Stroma" / f"p{i % 3}" / f"{i}{suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(file).save(target, format="GIF" if suffix == ".gif" else "JPEG")
    assert _store(tmp_path, _folder(root)).manifest.counts == {"Stroma": 6, "Tumor": 6}


def test_a_class_folder_without_readable_images_is_refused_by_name(tmp_path: Path) -> None:
    root = _tree(tmp_path / "d")
    (root / "Necrosis" / "p1").mkdir(parents=True)
    (root / "Necrosis" / "p1" / "0.heic").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"Necrosis: holds 1 files of kind .heic and no image that is read"):
        _store(tmp_path, _folder(root))


def test_one_crop_in_two_classes_is_refused_dropped_or_kept(tmp_path: Path) -> None:
    root = _tree(tmp_path / "d")
    (root / "Stroma" / "p1" / "dup.png").write_bytes((root / "Tumor" / "p1" / "0.png").read_bytes())
    (root / "Tumor" / "p2" / "twice.png").write_bytes((root / "Tumor" / "p2" / "0.png").read_bytes())
    with pytest.raises(ValueError, match=r"Stroma/p1/dup.png: has the crop of Tumor/p1/0.png to the last pixel"):
        _store(tmp_path / "a", _folder(root))
    dropped = _store(tmp_path / "b", _folder(root, contradictions="drop"))
    assert dropped.manifest.counts == {"Stroma": 6, "Tumor": 6}
    assert dropped.manifest.dropped == {"cells whose crop another class has too, to the last pixel": 2}
    assert dropped.manifest.doubtful == {"cells whose crop another of their class has too, to the last pixel": 1}
    np.testing.assert_array_equal(dropped.crops(np.arange(12))[0], read_rgb(root / "Stroma" / "p1" / "0.png"))
    kept = _store(tmp_path / "c", _folder(root, contradictions="keep"))
    assert kept.manifest.counts == {"Stroma": 7, "Tumor": 7}


def test_names_of_class_folders_are_cleaned(tmp_path: Path) -> None:
    nfd = unicodedata.normalize("NFD", "Drüse")
    store = _store(tmp_path, _folder(_tree(tmp_path / "d", (nfd, "Tumor", "tumor"))))
    assert store.manifest.classes == ["Drüse", "Tumor", "tumor"]
    assert sum("which differ only by case" in reason for reason in store.manifest.doubtful) == 1
    with pytest.raises(ValueError, match="the folder 'nan' is not a class name; rename it"):
        _store(tmp_path / "b", _folder(_tree(tmp_path / "e", ("nan", "Tumor"))))


@pytest.mark.parametrize("kind", ["stack.tif", "moving.webp", "moving.png", "moving.gif"])
def test_files_of_several_images_are_refused(tmp_path: Path, kind: str) -> None:
    first, *others = (_noise(seed) for seed in range(3))
    first.save(tmp_path / kind, save_all=True, append_images=others)
    with pytest.raises(ValueError, match=f"{kind}: holds 3 images; save each as a file of its own"):
        read_rgb(tmp_path / kind)


# Orientation


@pytest.mark.parametrize("orientation", range(2, 9))
def test_turned_images_are_refused_or_read_as_chosen(tmp_path: Path, orientation: int) -> None:
    from PIL import ImageOps

    pixels, exif = coded(60, 40), Image.Exif()
    exif[274] = orientation
    for name in ("a.png", "a.jpg"):
        Image.fromarray(pixels).save(tmp_path / name, exif=exif, **({"quality": 100} if name == "a.jpg" else {}))
    shown = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.png")))
    with pytest.raises(ValueError, match=rf"a.png: its orientation tag is {orientation}, .* data.orientation=upright"):
        read_rgb(tmp_path / "a.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png", "upright"), shown)
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png", "stored"), pixels)
    np.testing.assert_array_equal(turned(pixels, orientation), shown)
    with pytest.raises(ValueError, match="its orientation tag is"):
        read_rgb(tmp_path / "a.jpg")
    Image.fromarray(pixels).save(tmp_path / "a.tif", tiffinfo={274: orientation})
    with pytest.raises(ValueError, match="a.tif: its orientation tag is"):
        open_slide(tmp_path / "a.tif")
    upright = open_slide(tmp_path / "a.tif", ImageOptions(orientation="upright"))
    np.testing.assert_array_equal(upright.region(0, 0, upright.width, upright.height), shown)


# Scenes, pyramids and scales

UM = {"PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.25, "PhysicalSizeYUnit": "µm"}


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("planar", [False, True])
def test_pyramids_are_read_at_their_finest_level(tmp_path: Path, levels: int, planar: bool, bigtiff: bool) -> None:
    image = coded(400, 300)
    plain: dict[str, Any] = {"photometric": "rgb", "tile": (64, 64), "planarconfig": "separate" if planar else "contig"}

    def pixels(step: int) -> np.ndarray:
        return np.moveaxis(image[::step, ::step], -1, 0) if planar else image[::step, ::step]

    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True, bigtiff=bigtiff) as writer:
        metadata = {"axes": "SYX" if planar else "YXS", **UM}
        writer.write(pixels(1), subifds=levels, metadata=metadata, **plain)
        for level in range(levels):
            writer.write(pixels(2 ** (level + 1)), subfiletype=1, **plain)
    slide = open_slide(tmp_path / "a.ome.tif")
    assert (slide.width, slide.height, slide.stated_um_per_px()) == (400, 300, 0.25)
    np.testing.assert_array_equal(slide.region(130, 70, 90, 80), image[70:150, 130:220])


def test_scenes_are_chosen_by_size_or_by_the_user(tmp_path: Path) -> None:
    image = coded(300, 280)
    for name, first in (("label.ome.tif", np.full((64, 64, 3), 9, np.uint8)), ("two.ome.tif", np.full_like(image, 9))):
        with tifffile.TiffWriter(tmp_path / name, ome=True) as writer:
            writer.write(
                first,
                photometric="rgb",
                metadata={"axes": "YXS", "Name": "other", **UM, "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5},
            )
            writer.write(image, photometric="rgb", metadata={"axes": "YXS", "Name": "slide", **UM})
    slide = open_slide(tmp_path / "label.ome.tif")
    np.testing.assert_array_equal(slide.region(0, 0, 300, 280), image)
    assert slide.stated_um_per_px() == 0.25, "of the scene that is read"
    assert "largest of 2 scenes" in slide.note
    with pytest.raises(
        ValueError, match=r"holds 2 images \(0: 'other' .*; 1: 'slide' .*\); choose one with data.scene=N"
    ):
        open_slide(tmp_path / "two.ome.tif")
    chosen = open_slide(tmp_path / "two.ome.tif", ImageOptions(scene=1))
    np.testing.assert_array_equal(chosen.region(0, 0, 300, 280), image)
    with pytest.raises(ValueError, match="data.scene must be one of its images .* but got 2"):
        open_slide(tmp_path / "two.ome.tif", ImageOptions(scene=2))


def test_scales_by_resolution_tags(tmp_path: Path) -> None:
    image = coded(60, 50)

    def scale(**options: Any) -> float | None:
        tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", **options)
        return open_slide(tmp_path / "a.tif").stated_um_per_px()

    assert scale(resolution=(40000, 40000), resolutionunit="CENTIMETER") == pytest.approx(0.25)
    assert scale(resolution=(4, 4), imagej=True, metadata={"unit": "um"}) == pytest.approx(0.25)
    assert scale(resolution=(300, 300), resolutionunit="INCH") is None, "a printer's"
    assert scale() is None
    with pytest.raises(ValueError, match="pixels that are not square"):
        scale(resolution=(40000, 20000), resolutionunit="CENTIMETER")


def test_a_scale_that_differs_from_the_file_s_is_counted(root: Path) -> None:
    metadata = {"axes": "YXS", **UM, "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(root / "b.ome.tif", coded(250, 240), photometric="rgb", metadata=metadata)
    rows = [("b.ome.tif", 50, 60, "A"), ("b.ome.tif", 80, 90, "B")]
    store = read_rows(root, rows)
    assert store.manifest.doubtful["images whose file states 0.5 um/px where 0.25 was given"] == 1
    assert store.geometry.um_per_px == 0.25
    wrong = {**metadata, "PhysicalSizeX": 1.0, "PhysicalSizeY": 1.0}
    tifffile.imwrite(root / "b.ome.tif", coded(250, 240), photometric="rgb", metadata=wrong)
    with pytest.raises(ValueError, match=r"b.ome.tif: OME metadata states 1 um/px, as exports without calibration do"):
        read_rows(root, rows, image_um_per_px=None)
    assert len(read_rows(root, rows)) == 2, "what the message names as the remedy is one"


@pytest.mark.parametrize(("zarr_format", "axes"), [(2, "cyx"), (2, "tczyx"), (3, "cyx"), (3, "yx")])
def test_ome_zarr_is_read_by_region(root: Path, zarr_format: Any, axes: str) -> None:
    image = coded(250, 240)
    pixels = np.moveaxis(image, -1, 0) if "c" in axes else image[..., 0]
    pixels = (
        pixels.reshape([1 if axis in "tz" else size for axis, size in zip(axes, [1, 3, 1, 240, 250], strict=False)])
        if axes == "tczyx"
        else pixels
    )
    group = zarr.open_group(root / "s.zarr", mode="w", zarr_format=zarr_format)
    group.create_array("0", data=pixels, chunks=tuple(min(size, 64) for size in pixels.shape))
    units = {"x": "micrometer", "y": "micrometer"}
    described = [{"name": axis, "type": "space", **({"unit": units[axis]} if axis in units else {})} for axis in axes]
    steps = [{"type": "scale", "scale": [0.25 if axis in "xy" else 1.0 for axis in axes]}]
    multiscales = [{"axes": described, "datasets": [{"path": "0", "coordinateTransformations": steps}]}]
    group.attrs.update({"ome": {"multiscales": multiscales}} if zarr_format == 3 else {"multiscales": multiscales})
    slide = open_slide(root / "s.zarr")
    assert (slide.width, slide.height, slide.stated_um_per_px()) == (250, 240, 0.25)
    expected = image if "c" in axes else np.repeat(image[..., :1], 3, axis=-1)
    np.testing.assert_array_equal(slide.region(30, 40, 70, 60), expected[40:100, 30:100])
    store = read_rows(root, [("s.zarr", 50, 60, "A"), ("s.zarr", 80, 90, "B")], image_um_per_px=None)
    np.testing.assert_array_equal(store.crops(np.array([0]))[0], expected[40:80, 30:70])


# Annotation files


def test_labelme_coco_and_asap_are_read(root: Path) -> None:
    shapes = [
        {"label": "A", "points": [[50.5, 60]], "shape_type": "point"},
        {"label": "B", "points": [[70, 80], [90, 100]], "shape_type": "rectangle"},
        {"label": "A", "points": square(100, 120)[0], "shape_type": "polygon"},
        {"label": "B", "points": [[150, 120], [155, 120]], "shape_type": "circle"},
        {"label": "A", "points": [[1, 1], [2, 2]], "shape_type": "line"},
        {"label": "", "points": [[99, 99]], "shape_type": "point"},
    ]
    (root / "note.json").write_text(json.dumps({"shapes": shapes, "imagePath": "..\\x\\a.png"}))
    store = read_points(root, "note.json")
    assert list(zip(store.cells["x"], store.cells["y"], strict=True)) == [(50.5, 60), (80, 90), (100, 120), (150, 120)]
    assert store.manifest.dropped == {"line shapes": 1, "objects without a class": 1}
    coco = {
        "images": [{"id": 7, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "A"}, {"id": 2, "name": "B"}],
        "annotations": [
            {"image_id": 7, "category_id": 1, "bbox": [40, 50, 20, 20]},
            {
                "image_id": 7,
                "category_id": 2,
                "segmentation": [[70, 80, 90, 80, 90, 100, 70, 100]],
                "bbox": [0, 0, 1, 1],
            },
            {"image_id": 7, "category_id": 2, "bbox": [0, 0, 9, 9], "iscrowd": 1},
        ],
    }
    (root / "instances.json").write_text(json.dumps(coco))
    store = read_points(root, "instances.json")
    assert list(zip(store.cells["x"], store.cells["y"], strict=True)) == [(50, 60), (80, 90)]
    assert store.manifest.dropped == {"crowds": 1}
    coco["annotations"][1]["category_id"] = 9
    (root / "instances.json").write_text(json.dumps(coco))
    with pytest.raises(ValueError, match=r"instances.json, row 2: must name an image and a category of the file"):
        read_points(root, "instances.json")
    groups = [("Dot", "A", [(50, 60)]), ("PointSet", "B", [(80, 90), (90, 100)]), ("Dot", "None", [(99, 99)])]
    groups += [("Polygon", "B", [(10, 10), (240, 10), (240, 230)]), ("Measurement", "A", [(1, 1), (2, 2)])]
    (root / "a.xml").write_text(_asap(groups))
    store = read_points(root, "a.xml")
    assert list(zip(store.cells["x"], store.cells["y"], strict=True)) == [(50, 60), (80, 90), (90, 100)]
    assert store.manifest.dropped == {
        "Measurement annotations": 1,
        "objects without a class": 1,
        "regions (data.polygons=cells makes them cells)": 1,
    }


def _asap(groups: list[tuple[str, str, list[tuple[int, int]]]]) -> str:
    def annotation(kind: str, group: str, points: list[tuple[int, int]]) -> str:
        corners = "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y}"/>' for i, (x, y) in enumerate(points))
        coordinates = f"<Coordinates>{corners}</Coordinates>"
        return f'<Annotation Name="n" Type="{kind}" PartOfGroup="{group}">{coordinates}</Annotation>'

    inner = "".join(annotation(*group) for group in groups)
    return f'<?xml version="1.0"?><ASAP_Annotations><Annotations>{inner}</Annotations></ASAP_Annotations>'


def test_xml_bombs_and_other_xml_are_refused(root: Path) -> None:
    bomb = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa">]><ASAP_Annotations>&a;</ASAP_Annotations>'
    (root / "a.xml").write_text(bomb)
    with pytest.raises(ValueError, match=r"a.xml: is not readable as XML"):
        read_points(root, "a.xml")
    (root / "a.xml").write_text("<html/>")
    with pytest.raises(ValueError, match=r"a.xml: must be ASAP's XML with ASAP_Annotations, but the root is html"):
        read_points(root, "a.xml")


@pytest.mark.parametrize(
    ("name", "encode"),
    [
        ("a.geojson.gz", gzip.compress),
        ("a.geojson", lambda content: b"\xef\xbb\xbf" + content),
        ("a.geojson", lambda content: content.decode().encode("utf-16")),
        ("a.png.geojson", bytes),
        ("A.geojson", bytes),
        ("notes/a.geojson", bytes),
    ],
)
def test_annotation_files_find_their_image(root: Path, name: str, encode: Callable[[bytes], bytes]) -> None:
    features = [feature("Point", [50, 60], "A"), feature("Point", [80, 90], "B")]
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_bytes(encode(json.dumps(features).encode()))
    assert list(read_points(root, name).cells["x"]) == [50, 80]


def test_names_in_another_unicode_form_are_found(root: Path) -> None:
    (root / "a.png").rename(root / unicodedata.normalize("NFD", "Präparat.png"))
    features = [feature("Point", [50, 60], "A"), feature("Point", [80, 90], "B")]
    (root / unicodedata.normalize("NFC", "Präparat.geojson")).write_text(json.dumps(features))
    assert len(read_points(root, "*.geojson")) == 2


def test_two_images_of_one_name_are_refused_by_name(root: Path) -> None:
    Image.fromarray(coded(50, 50)).save(root / "a.jpg")
    with pytest.raises(ValueError, match=r"a.geojson: belongs to one image, but a.jpg, a.png have its name"):
        read_geojson(root, [feature("Point", [50, 60], "A")])


# Tables


@pytest.mark.parametrize(
    "content",
    [
        "image;x;y;class\na.png;50,5;60,25;A\na.png;80;90;B\n",
        "image\tx\ty\tclass\na.png\t50,5\t60,25\tA\na.png\t80\t90\tB\n",
        "# exported by X\n# and Y\nimage,x,y,class\na.png,50.5,60.25,A\na.png,80,90,B\n",
        "Image, X, Y, Class\n a.png , 50.5 , 60.25 ,A \na.png,80,90,B\n",
        "image,x,y,class,\na.png,50.5,60.25,A,\na.png,80,90,B,\n",
        "image,x,y,class\n.\\a.png,50.5,60.25,A\na.png,80,90,B\n",
        "image|x|y|class\na.png|50.5|60.25|A\na.png|80|90|B\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_as_programs_write_them(root: Path, content: str, encoding: str) -> None:
    (root / "t.csv").write_bytes(content.encode(encoding))
    store = read_points(root, "t.csv")
    assert list(zip(store.cells["x"], store.cells["y"], strict=True)) == [(50.5, 60.25), (80, 90)]
    assert store.manifest.classes == ["A", "B"]


def test_rows_are_counted_with_the_comments_before_the_header(root: Path) -> None:
    (root / "t.csv").write_text("# exported\nimage,x,y,class\na.png,50,60,A\na.png,-1,90,B\n")
    with pytest.raises(ValueError, match="t.csv, row 4: x must be a number >= 0"):
        read_points(root, "t.csv")
    (root / "t.csv").write_bytes("image,x,y,class\na.png,50,60,Drüse\n".encode("cp1252"))
    with pytest.raises(ValueError, match=r"row 2 is not UTF-8 \(byte 0xfc\); save it as 'CSV UTF-8'"):
        read_points(root, "t.csv")


def test_a_named_index_of_parquet_is_a_column(root: Path) -> None:
    table = pd.DataFrame({"cell_id": ["k1", "k2"], "image": "a.png", "x": [50.0, 60], "y": 60.0, "class": ["A", "B"]})
    table.set_index("cell_id").to_parquet(root / "t.parquet")
    assert list(read_points(root, "t.parquet").cells["cell_id"]) == ["k1", "k2"]


def test_a_table_of_crops_has_sites_and_clean_names(tmp_path: Path) -> None:
    root = _tree(tmp_path / "d")
    rows = [
        (file.relative_to(root).as_posix(), file.parts[-3] + " ", file.parts[-2], "n")
        for file in sorted(root.rglob("*.png"))
    ]
    pd.DataFrame(rows, columns=["path", "class", "specimen", "site"]).to_csv(root / "t.csv", index=False)
    store = _store(tmp_path, _table(root / "t.csv"))
    assert store.manifest.counts == {"Stroma": 6, "Tumor": 6}
    assert set(store.cells["site"]) == {"n"}


@pytest.mark.parametrize("channels", [0, 1, 3])
def test_npz_with_labels_from_one_and_a_single_channel(tmp_path: Path, channels: int) -> None:
    rng = np.random.default_rng(0)
    arrays = {}
    for part in ("train", "val", "test"):
        shape = (6, 28, 28, channels) if channels else (6, 28, 28)
        arrays[f"{part}_images"] = rng.integers(0, 256, shape, dtype=np.uint8)
        arrays[f"{part}_labels"] = np.array([1, 2, 3] * 2)[:, None]
    np.savez(tmp_path / "c.npz", **arrays)
    store = _store(tmp_path, _npz(tmp_path / "c.npz", ["x", "y", "z"]))
    assert store.manifest.counts == {"x": 6, "y": 6, "z": 6}
    assert list(store.cells["class"][:3]) == ["x", "y", "z"]


# The command line


@pytest.mark.parametrize(
    "name",
    [
        "My Slides",
        "Slides (2024)",
        "CD8,CD103",
        "set=1",
        "Präparate",
        "slide#1",
        "a[1]",
        "a'b",
        "50%",
        "x\\'y",
        "end\\",
    ],
)
def test_paths_as_people_have_them_are_taken_as_they_are(tmp_path: Path, name: str) -> None:
    [quoted, other] = prepare_overrides([f"data.root={tmp_path / name}", "data.margin_um=0"])
    [parsed] = OverridesParser.create().parse_overrides([quoted])
    assert parsed.value() == str(tmp_path / name)
    assert other == "data.margin_um=0"
    (tmp_path / name).mkdir()
    [quoted, _] = prepare_overrides([f"data.root={tmp_path / name}", "-m"])
    [parsed] = OverridesParser.create().parse_overrides([quoted])
    assert parsed.value() == str(tmp_path / name)


def test_sweeps_over_paths_and_quoted_values_stay() -> None:
    for argument in (
        "data.root=a,b",
        "data.root='a b'",
        "data.root=null",
        "runs_dir=${oc.env:X}",
        "model=cnn,nin",
        "seed=range(3)",
    ):
        assert prepare_overrides(["-m", argument]) == ["-m", argument]


_ODD = "(a)|a (b)|a=b|a#b|[a|a]|~a|a'b|a\"b|'a|\"a|'a'b|{a|{a}|Ä 組織| a |$x|a;b|a\\|2024|1e5|true|@a|a%b|*|a\tb|-a"


@pytest.mark.parametrize("mode", [[], ["-m"]], ids=["run", "grid"])
@pytest.mark.parametrize("name", _ODD.split("|"))
def test_a_path_that_is_absent_is_text_whatever_it_looks_like(mode: list[str], name: str) -> None:
    [*_, prepared] = prepare_overrides([*mode, f"data.root={name}"])
    [parsed] = OverridesParser.create().parse_overrides([prepared])
    assert parsed.value() == name


def test_paths_with_commas_are_one_or_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert prepare_overrides(["data.root=a (1),b"]) == ["data.root='a (1),b'"], "one run, one path"
    assert prepare_overrides(["data.root=[a]"]) == ["data.root='[a]'"]
    for folder in ("a (1)", "b=2"):
        (tmp_path / folder).mkdir()
    assert prepare_overrides(["-m", "data.root=a (1),b=2"]) == ["-m", "data.root='a (1)','b=2'"]
    (tmp_path / "a (1),b=2").mkdir()
    assert prepare_overrides(["-m", "data.root=a (1),b=2"]) == ["-m", "data.root='a (1),b=2'"]


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert prepare_overrides(["data.table=~/cells.csv"]) == [f"data.table={tmp_path}/cells.csv"]
    assert prepare_overrides(["data.root=~nobody-of-that-name"]) == ["data.root='~nobody-of-that-name'"]


def test_a_list_that_is_cut_off_is_no_path(tmp_path: Path) -> None:
    assert prepare_overrides(["optics.sigma=[0.4,0.8"]) == ["optics.sigma='[0.4,0.8'"], "its type is refused in words"
    assert prepare_overrides(["data.specimens=60"]) == ["data.specimens=60"], "of data=synthetic"


def test_rings_that_cross_themselves_have_a_centre_inside() -> None:
    bow_tie = as_ring([[100, 100], [110, 110], [110, 100], [100, 110.01], [100, 100]])
    x, y = centroid(bow_tie)
    assert 100 <= x <= 110
    assert 100 <= y <= 110.01


def test_a_split_is_chosen_like_any_setting() -> None:
    assert prepare_overrides(["data.split=by_site", "data.split.seed=1"]) == ["data/split=by_site", "data.split.seed=1"]


def test_an_edited_ome_zarr_is_another_input(root: Path) -> None:
    group = zarr.open_group(root / "s.zarr", mode="w", zarr_format=2)
    array = group.create_array("0", data=coded(64, 64), chunks=(32, 32, 3))
    before = files_fingerprint(root, [root / "s.zarr"])
    assert files_fingerprint(root, [root / "s.zarr"]) == before
    array[0, 0] = 9
    assert files_fingerprint(root, [root / "s.zarr"]) != before


def test_a_form_feed_in_a_name_ends_no_row(root: Path) -> None:
    (root / "t.csv").write_bytes(b'image,x,y,class\r\na.png,50,60,"A\x0cB"\r\na.png,80,90,B\r\n')
    assert read_points(root, "t.csv").manifest.classes == ["A B", "B"]


def test_a_stray_image_above_the_parts_of_a_split_is_named(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        (tmp_path / "d" / part / "Tumor").mkdir(parents=True)
        _noise().save(tmp_path / "d" / part / "Tumor" / "0.png")
    _noise().save(tmp_path / "d" / "stray.png")
    with pytest.raises(ValueError, match=r"stray.png: is not in a class folder"):
        _store(tmp_path, _folder(tmp_path / "d"))


def test_a_slide_of_scale_zero_names_the_file(tmp_path: Path) -> None:
    description = "Aperio Image Library v10\r\n128x128|AppMag = 40|MPP = 0"
    plain: dict[str, Any] = {"photometric": "rgb", "tile": (64, 64), "metadata": None}
    tifffile.imwrite(tmp_path / "a.svs", coded(128, 128), description=description, **plain)
    with pytest.raises(ValueError, match=r"a.svs: the slide states a scale of 0 x 0 um/px; state the right one"):
        open_slide(tmp_path / "a.svs").stated_um_per_px()
