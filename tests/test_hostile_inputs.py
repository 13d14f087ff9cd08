"""Inputs that are damaged, unlucky or meant to harm: each ends in a message with its file, or is read rightly."""

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from conftest import config_of, start_python
from PIL import Image

from cellpatch.config.assemble_data import assemble_data
from cellpatch.config.schema import compose_config
from cellpatch.data.annotations import geojson
from cellpatch.data.annotations.files import read_json
from cellpatch.data.images.decoding import decode
from cellpatch.data.images.readers import open_slide
from cellpatch.data.sources.folder import images_below
from cellpatch.data.sources.npz import Npz
from cellpatch.data.store.intake import Intake
from cellpatch.data.store.reader import Geometry
from cellpatch.data.tables import read_table
from cellpatch.figures.tables import to_markdown
from cellpatch.runtime.error_collector import ErrorCollector
from cellpatch.runtime.plain_text import is_plain, plain
from cellpatch.runtime.spreadsheet import csv_text, guard, unguard

PIXELS = np.random.default_rng(0).integers(1, 256, (48, 64, 3), dtype=np.uint8)


def _feature(coordinates: Any, classification: Any = "A") -> dict[str, Any]:
    geometry = {"type": "Point", "coordinates": coordinates}
    return {"type": "Feature", "geometry": geometry, "properties": {"classification": classification}}


@pytest.mark.parametrize(
    "coordinates", ["12", ["1", "2"], [float("nan"), 1], [[1, 2]], [1], None, [10**400, 1], [1e10, 1]]
)
def test_coordinates_that_are_no_numbers_are_refused_by_row(coordinates: Any) -> None:
    with pytest.raises(ValueError, match=r"a\.geojson, row 2: malformed Point coordinates"):
        geojson.read_shapes([_feature([1, 2]), _feature(coordinates)], "a.geojson", Intake())


@pytest.mark.parametrize("value", [True, [1], {"name": {"a": 1}}])
def test_a_classification_of_another_type_names_its_row(value: Any) -> None:
    with pytest.raises(ValueError, match=r"a\.geojson, row 1: classification must be a name"):
        geojson.read_shapes([_feature([1, 2], value)], "a.geojson", Intake())


def test_properties_must_be_an_object() -> None:
    with pytest.raises(ValueError, match=r"a\.geojson, row 1: properties must be an object"):
        geojson.read_shapes([{"type": "Feature", "geometry": None, "properties": [1]}], "a.geojson", Intake())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b'{"features": [], "features": [1]}', "the key 'features' has two values"),
        (b"\xff\xff{}", "not readable as JSON"),
        (b"", "not readable as JSON"),
        (b"\x1f\x8b\x08\0", "not readable as JSON"),
        (gzip.compress(b"[]" * 1000, mtime=0)[:-12], "not readable as JSON"),
        (b"9" * 5000, "not readable as JSON"),
    ],
)
def test_json_that_is_none_names_the_file(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.geojson").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.geojson: .*{message}"):
        read_json(tmp_path / "a.geojson")


def test_a_key_twice_with_one_value_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1, "a": 1}')
    assert read_json(tmp_path / "a.json") == {"a": 1}


@pytest.mark.parametrize(
    "options", [{"rowsperstrip": 8}, {"tile": (16, 16)}, {"tile": (16, 16), "compression": "zlib"}]
)
def test_a_tiff_that_is_cut_off_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    file = tmp_path / "a.tif"
    tifffile.imwrite(file, PIXELS, photometric="rgb", **options)
    np.testing.assert_array_equal(open_slide(file).region(0, 0, 64, 48), PIXELS)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"a\.tif: .*cut off"):
        open_slide(file)


def _without_segment(file: Path) -> None:
    """Make the second strip or tile one that the file states and lacks."""
    with tifffile.TiffFile(file, mode="r+") as tiff:
        for name in ("StripByteCounts", "TileByteCounts", "StripOffsets", "TileOffsets"):
            tag = tiff.pages[0].tags.get(name)  # type: ignore[union-attr]
            if tag is not None:
                tag.overwrite([0 if i == 1 else value for i, value in enumerate(tag.value)])


def test_a_missing_strip_is_refused_and_a_missing_tile_is_no_tissue(tmp_path: Path) -> None:
    file = tmp_path / "strips.tif"
    tifffile.imwrite(file, PIXELS, photometric="rgb", rowsperstrip=8)
    _without_segment(file)
    with pytest.raises(ValueError, match=r"strips\.tif: .*strip 1 is missing"):
        open_slide(file)
    file = tmp_path / "tiles.tif"
    tifffile.imwrite(file, PIXELS, photometric="rgb", tile=(16, 16))
    _without_segment(file)
    slide = open_slide(file)
    assert not slide.opaque(10, 0, 8, 8)  # touches the tile of columns 16 to 31
    assert slide.opaque(32, 0, 32, 48)
    np.testing.assert_array_equal(slide.region(32, 0, 32, 48), PIXELS[:, 32:])


def test_an_ome_zarr_without_a_chunk_or_with_a_pipe(tmp_path: Path) -> None:
    folder = tmp_path / "a.zarr"
    group = zarr.open_group(str(folder), mode="w", zarr_format=2)
    group.create_array("0", shape=PIXELS.shape, dtype="u1", chunks=(16, 16, 3))[:] = PIXELS
    levels = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [0.5, 0.5, 1]}]}]
    axes = [{"name": name, "type": "space"} for name in "yx"] + [{"name": "c"}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": levels}]
    assert open_slide(folder).opaque(0, 0, 64, 48)
    (folder / "0" / "0.1.0").unlink()
    assert not open_slide(folder).opaque(10, 0, 8, 8)
    assert open_slide(folder).opaque(32, 0, 32, 48)
    (folder / "0" / "1.1.0").write_bytes(b"no chunk")
    with pytest.raises(ValueError, match=r"a\.zarr: cannot decode the region"):
        open_slide(folder).region(16, 16, 8, 8)
    os.mkfifo(folder / "0" / "0.1.0")
    with pytest.raises(ValueError, match=r"a\.zarr: .*neither a file nor a folder"):
        open_slide(folder)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("val_labels", np.full(6, 10**8), "val_labels must be below 1000"),
        ("val_labels", np.full(6, 2**63, np.uint64), "val_labels must be below 1000"),
        ("val_labels", np.array(5), "val_labels must have a row for each cell"),
        ("val_labels", np.array([{}] * 6, object), "plain C-ordered array"),
        ("train_images", np.array([{}] * 6, object), "plain C-ordered array"),
        ("train_images", np.zeros((6, 3000, 3000), np.uint8), "at most 2048 px wide"),
    ],
)
def test_an_npz_that_states_too_much_is_refused(tmp_path: Path, name: str, value: np.ndarray, message: str) -> None:
    arrays: dict[str, np.ndarray] = {}
    for part in ("train", "val", "test"):
        arrays |= {f"{part}_images": np.zeros((6, 8, 8, 3), np.uint8), f"{part}_labels": np.arange(6) % 2}
    np.savez_compressed(tmp_path / "a.npz", **arrays | {name: value})  # type: ignore[arg-type]
    (tmp_path / "store").mkdir()
    with pytest.raises(ValueError, match=message):
        Npz(str(tmp_path / "a.npz"), None, None, "keep", "", True).fill(tmp_path / "store")


def test_names_that_steer_a_terminal_are_refused_by_row(tmp_path: Path) -> None:
    for bad in ("\x1b[31mA", "a\0b", "\u202eA", "A" * 201):
        pd.DataFrame({"path": ["1.png", "2.png"], "class": ["A", bad], "specimen": "s"}).to_csv(tmp_path / "t.csv")
        with pytest.raises(ValueError, match=r"t\.csv, row 3: column 'class' must") as error:
            read_table(tmp_path / "t.csv", ["path", "class", "specimen"])
        assert is_plain(str(error.value))


@pytest.mark.parametrize("content", ['path,class\n"a.png,A\n', "path,class\n" + "x" * 200_000 + ",A\n"])
def test_a_field_without_end_names_the_file(tmp_path: Path, content: str) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(ValueError, match=r"t\.csv: cannot be read as a table"):
        read_table(tmp_path / "t.csv", ["path", "class"])


def test_file_names_that_are_no_text_are_refused_and_a_newline_is_read(tmp_path: Path) -> None:
    Image.fromarray(PIXELS[:8, :8]).save(tmp_path / "a\nb.png")
    assert [Path(file).name for file in images_below(tmp_path, Intake())] == ["a\nb.png"]
    (tmp_path / "a\nb.png").rename(tmp_path / os.fsdecode(b"\xff.png"))
    with pytest.raises(ValueError, match=r"\\udcff\.png: its name is not UTF-8"):
        images_below(tmp_path, Intake())


def test_what_is_no_file_hangs_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "empty.png").touch()
    Image.fromarray(np.zeros((2049, 2049), np.uint8)).save(tmp_path / "large.png")
    problems = ErrorCollector()
    files = sorted(tmp_path.iterdir())
    assert list(decode([(file, file.name) for file in files], problems)) == []
    assert len(problems.messages) == 5
    assert all(file.name in message for file, message in zip(files, problems.messages, strict=True))


def test_spreadsheets_run_nothing_and_tables_come_back() -> None:
    texts = ["=1+1", "@SUM(A1)", "-x", "+x", "\t=1", "'=1", "''-x", "-5", "+1e3", "-", "a", "", "'a"]
    assert [guard(text)[0] == "'" for text in texts if text][:7] == [True] * 7
    assert [guard(text) for text in texts[7:]] == texts[7:]
    assert [unguard(guard(text)) for text in texts] == texts
    table = pd.DataFrame({"=a": ["=1", "b\rc"], "n": [-1.5, 2.0]})
    assert csv_text(table) == "'=a,n\n'=1,-1.5\n\"b\nc\",2.0\n"


def test_a_guarded_table_is_read_as_it_was(tmp_path: Path) -> None:
    table = pd.DataFrame({"path": ["-a.png", "b.png"], "class": ["=1+1", "-5"], "=note": ["@x", "-"]})
    (tmp_path / "t.csv").write_text(csv_text(table))
    got = read_table(tmp_path / "t.csv", ["path", "class"]).drop(columns="where")
    assert got.to_dict("list") == table.to_dict("list")


def test_markdown_shows_html_and_links_as_text() -> None:
    shown = pd.DataFrame({"class": ["<script>x</script>", "![a](http://b)", "a\nb", "<0.001", "\x1b[1m"]})
    assert to_markdown(shown).splitlines()[2:] == [
        "| &lt;script>x&lt;/script> |",
        r"| !\[a](http://b) |",
        "| a b |",
        "| <0.001 |",
        r"| \x1b\[1m |",
    ]


def test_plain_text() -> None:
    assert plain("a\x1b[0m\u202eb\n\udcff") == "a\\x1b[0m\\u202eb\n\\udcff"
    assert plain("\u00e9\u05d0\u200d") == "\u00e9\u05d0\u200d"


@pytest.mark.parametrize(
    "override",
    [
        "adapt.lr=nan",
        "adapt.adamw_rate=1e300",
        "data.um_per_px=inf",
        "data.um_per_px=-1",
        "data.side_px=1000000000",
        "data.margin_px=-1",
        f"data.name={'x' * 61}",
        'data.licence="\x1b[31m"',
    ],
)
def test_hostile_settings_name_their_key(tmp_path: Path, override: str) -> None:
    from cellpatch.config.assemble import assemble

    with pytest.raises(ValueError, match=override.partition("=")[0].replace(".", r"\.")):
        assemble(config_of(tmp_path, tmp_path, override))


def test_a_field_of_a_kilometre_is_no_crop(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "i.png")
    pd.DataFrame({"image": "i.png", "x": [20, 40], "y": 20, "class": ["A", "B"]}).to_csv(tmp_path / "p.csv")
    data = ["data=points", f"data.root={tmp_path}", "data.points=p.csv", "data.image_um_per_px=1e-6"]
    source = assemble_data(compose_config([*data, "data.field_um=9999"])).source
    (tmp_path / "store").mkdir()
    with pytest.raises(ValueError, match="at most 2048 px wide"):
        source.fill(tmp_path / "store")
    assert Geometry(2048).side_px == 2048


@pytest.mark.long
def test_a_share_of_the_fuzzing_holds() -> None:
    process = start_python(str(Path(__file__).with_name("fuzz_inputs.py")), "--runs", "150", "--seed", "1")
    out, err = process.communicate(timeout=1500)
    assert process.returncode == 0, out[-5000:] + err[-2000:]
