import hashlib
import json
import multiprocessing
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellpatch.data.store import shards
from cellpatch.data.store.reader import CellStore, Geometry
from cellpatch.data.store.shards import Shards, finish_shard, write_crops
from cellpatch.data.store.writer import CellRows, StoreWriter
from cellpatch.runtime.atomic_io import atomic_directory, atomic_write, create_once, file_lock

CLASSES = ["a", "b"]


def _columns(n: int, start: int = 0) -> dict[str, list[str]]:
    return {
        "cell_id": [str(start + i) for i in range(n)],
        "label": [CLASSES[i % 2] for i in range(n)],
        "specimen": [f"s{i}" for i in range(n)],
        "source": [f"row {start + i}" for i in range(n)],
    }


def test_another_process_opens_the_store_itself(store_of: Callable[..., Path]) -> None:
    store = CellStore(store_of(n=30))
    crops = store.crops(np.arange(30))
    sent = pickle.dumps(store)
    assert len(sent) < 1000, "no crops"
    np.testing.assert_array_equal(pickle.loads(sent).crops(np.arange(30)), crops)  # noqa: S301


def test_what_is_written_is_read(store_of: Callable[..., Path]) -> None:
    root = store_of(n=30, shard_rows=7)
    store = CellStore(root)
    crops = np.load(root.with_name("store-crops.npy"))
    assert len(store) == 30
    assert sorted(file.name for file in root.iterdir()) == sorted([*store.manifest.files, "manifest.json"])
    assert len(store.manifest.files) == 6  # five shards and the table
    np.testing.assert_array_equal(store.crops(np.arange(30)), crops)
    assert store.manifest.counts == {"a": 15, "b": 15}
    assert list(store.labels[:4]) == [0, 1, 0, 1]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    chunks=st.lists(st.integers(1, 11), min_size=1, max_size=8),
    picks=st.lists(st.integers(0, 10**6), max_size=20),
)
def test_any_chunking_and_any_order_of_reading(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[int], picks: list[int]
) -> None:
    root = tmp_path_factory.mktemp("store")
    n = sum(chunks) + 2
    crops = np.random.default_rng(n).integers(0, 256, (n, 4, 4, 3), dtype=np.uint8)
    with StoreWriter(root, CLASSES, Geometry(4), {}, shard_rows=5) as writer:
        start = 0
        for size in [2, *chunks]:
            writer.add(crops[start : start + size], CellRows(**_columns(size, start)))
            start += size
    index = np.array([pick % n for pick in picks], dtype=np.int64)
    np.testing.assert_array_equal(CellStore(root).crops(index), crops[index])


@pytest.mark.parametrize("labels", ["cabcab", "ccbbaa", "abcabc"])
@pytest.mark.parametrize("shard_rows", [2, 100])
def test_labels_index_the_manifest_s_classes_in_whichever_order_cells_come(
    tmp_path: Path, labels: str, shard_rows: int
) -> None:
    n = len(labels)
    crops = np.random.default_rng(0).integers(0, 256, (n, 8, 8, 3), np.uint8)
    with StoreWriter(tmp_path, ["a", "b", "c"], Geometry(8), {}, shard_rows) as writer:
        writer.add(crops, CellRows(**_columns(n) | {"label": [*labels]}))
    store = CellStore(tmp_path)
    assert "".join(store.manifest.classes[code] for code in store.labels) == labels


@pytest.mark.parametrize("chosen", [[], [3], [29, 0, 11, 11, 6]])
def test_rows_and_columns_are_those_of_the_table(store_of: Callable[..., Path], chosen: list[int]) -> None:
    """What is read in parts, over several groups of rows, equals the table as a whole."""
    root = store_of(n=30, shard_rows=7, specimens=12)
    assert pq.ParquetFile(root / "cells.parquet").num_row_groups > 1
    store = CellStore(root)
    whole = pq.read_table(root / "cells.parquet").to_pandas()
    rows = store.rows(np.array(chosen, int))
    assert rows.index.tolist() == chosen
    for name in whole:
        expected = whole[name].iloc[chosen].astype(object).fillna("none").tolist()
        assert rows[name].astype(object).fillna("none").tolist() == expected
    assert list(store.specimens) == whole["specimen"].tolist()
    assert list(store.specimens.categories) == sorted(set(whole["specimen"]))
    assert store.digests.tobytes() == b"".join(whole["digest"])


def test_fingerprint_is_of_the_content(store_of: Callable[..., Path]) -> None:
    same = [store_of(name="one"), store_of(name="two"), store_of(name="three", shard_rows=4)]
    others = [store_of(name="four", specimens=4), store_of(name="five", n=28), store_of(name="six", side=9)]
    prints = [CellStore(root).manifest.fingerprint for root in [*same, *others]]
    assert len(set(prints[:3])) == 1
    assert len(set(prints)) == 4


def test_an_error_while_writing_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "store"
    with pytest.raises(KeyboardInterrupt), atomic_directory(target) as folder:
        (folder / "half").write_text("written")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"cell_id": ["1", "1"]}, "row 1: duplicate cell_id '1', first seen at row 0"),
        ({"label": ["a", "z"]}, "row 1: unknown class 'z'; allowed are"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, columns: dict[str, list[str]], message: str) -> None:
    with pytest.raises(ValueError, match=message), StoreWriter(tmp_path, CLASSES, Geometry(4), {}) as writer:
        writer.add(np.zeros((2, 4, 4, 3), np.uint8), CellRows(**{**_columns(2), **columns}))


def test_another_side_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="must be n x 4 x 4 x 3, but got"),
        StoreWriter(tmp_path, CLASSES, Geometry(4), {}) as writer,
    ):
        writer.add(np.zeros((2, 5, 5, 3), np.uint8), CellRows(**_columns(2)))


def test_a_class_left_empty_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match=r"no cells of \['b'\] were left"),
        StoreWriter(tmp_path, CLASSES, Geometry(4), {}) as writer,
    ):
        writer.add(np.zeros((1, 4, 4, 3), np.uint8), CellRows(**_columns(1)))


def test_an_altered_shard_is_refused(store_of: Callable[..., Path]) -> None:
    root = store_of()
    with (root / "crops-00001.npy").open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    with pytest.raises(ValueError, match=r"checksum of \['crops-00001.npy'\] differs"):
        CellStore(root)


def test_a_missing_shard_is_refused(store_of: Callable[..., Path]) -> None:
    root = store_of()
    (root / "crops-00002.npy").unlink()
    with pytest.raises(ValueError, match=r"lacks \['crops-00002.npy'\]"):
        CellStore(root)


def test_another_format_version_is_refused(store_of: Callable[..., Path]) -> None:
    root = store_of()
    file = root / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format_version": 99}))
    with pytest.raises(ValueError, match="format version must be 3, but got 99"):
        CellStore(root)


def test_no_store_and_no_json_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no manifest.json"):
        CellStore(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="not readable as JSON"):
        CellStore(tmp_path)


def _fill(folder: Path) -> None:
    with (folder.parent / "fillings").open("a") as file:
        file.write("filled\n")
    (folder / "content").write_text("whole")


@pytest.mark.long
def test_many_processes_one_writer(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=create_once, args=(tmp_path / "store", _fill)) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 6
    assert (tmp_path / "fillings").read_text() == "filled\n"
    assert (tmp_path / "store" / "content").read_text() == "whole"


def test_a_file_is_replaced_whole_or_kept(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(file) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert file.read_text() == "old"
    with atomic_write(file) as temporary:
        temporary.write_text("new")
    assert file.read_text() == "new"
    assert list(tmp_path.iterdir()) == [file]


def test_what_a_killed_process_left_is_swept_away(tmp_path: Path) -> None:
    left = tmp_path / ".store.99999.tmp"
    left.mkdir()
    (left / "half").write_text("x")
    another, written = tmp_path / ".another.99999.tmp", tmp_path / ".store2.99999.tmp"
    another.mkdir()
    written.mkdir()
    with file_lock(tmp_path / ".store2.lock"):  # its writer lives
        create_once(tmp_path / "store", _fill)
    assert not left.exists()
    assert not another.exists()
    assert written.exists()


def test_a_shard_is_bounded_in_bytes(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), StoreWriter(tmp_path, CLASSES, Geometry(1024), {}) as writer:
        assert writer.shards.rows * 1024**2 * 3 <= 2**26
        raise RuntimeError


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """A file-size limit stands for the full disk: the kernel refuses the write in the middle of a shard."""
    program = f"""
import resource, numpy as np
from pathlib import Path
from cellpatch.data.store.reader import Geometry
from cellpatch.data.store.writer import CellRows, StoreWriter
from cellpatch.runtime.atomic_io import atomic_directory
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
with atomic_directory(Path({str(tmp_path)!r}) / "store") as folder:
    with StoreWriter(folder, ["a", "b"], Geometry(40), {{}}, shard_rows=64) as writer:
        names = [str(i) for i in range(640)]
        rows = CellRows(cell_id=names, label=["a"] * 640, specimen=names, source=names)
        writer.add(np.zeros((640, 40, 40, 3), np.uint8), rows)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "no room to write" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_fingerprint_is_of_json_rows(tmp_path: Path) -> None:
    """The bytes that it always was of, with names that JSON escapes; a site is in it only where one is stated."""
    names = ['a "b"', "\u00e4\\n", "\U0001f52c"]
    crops = np.arange(3 * 48, dtype=np.uint8).reshape(3, 4, 4, 3)
    rows = CellRows(
        cell_id=names,
        label=["a", "b", "a"],
        specimen=names,
        source=names,
        split=["train", None, "test"],
        site=["n", None, ""],
    )
    with StoreWriter(tmp_path, CLASSES, Geometry(4), {}) as writer:
        writer.add(crops, rows)
    expected = hashlib.sha256(json.dumps([CLASSES, {"crop_px": 4, "margin_px": 0, "um_per_px": None}]).encode())
    for i in range(3):
        digest = hashlib.blake2b(crops[i].tobytes(), digest_size=16).hexdigest()
        row = [names[i], "aba"[i], names[i], rows.split[i], digest, *([rows.site[i]] if rows.site[i] else [])]
        expected.update(json.dumps(row).encode())
    assert CellStore(tmp_path).manifest.fingerprint == expected.hexdigest()


@pytest.mark.parametrize(
    ("sites", "stated"), [(None, False), ([None] * 5, False), ([None, None, None, None, "n"], True)]
)
def test_a_column_without_a_value_is_known_unread(tmp_path: Path, sites: list[str | None] | None, stated: bool) -> None:
    """Cells are of three groups of rows; the last one alone may state a site."""
    with StoreWriter(tmp_path, ["a", "b"], Geometry(4), {}, shard_rows=2) as writer:
        rows = CellRows(**_columns(5), site=sites)
        writer.add(np.arange(5 * 48, dtype=np.uint8).reshape(5, 4, 4, 3), rows)
    store = CellStore(tmp_path)
    assert store.has_values("site") == stated
    assert store.has_values("specimen")
    assert not store.has_values("near_group")


def test_a_shard_s_header_is_as_long_whatever_it_holds(tmp_path: Path) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (1, 1024, 1024, 3), dtype=np.uint8)
    for side in (4, 1024):
        assert len({len(shards._header(n, side)) for n in (1, 10**12)}) == 1
    place = next(Shards(tmp_path, 5).places(first=7, n=1, most=64))
    assert place == shards.Place(tmp_path / "crops-00001.npy", 2, 1)
    write_crops(place, crops)
    finish_shard(place.file, 3, 1024)
    written = np.load(place.file)
    np.testing.assert_array_equal(written[2:], crops)
    assert not written[:2].any()


@settings(max_examples=50)
@given(first=st.integers(0, 50), n=st.integers(0, 40), most=st.integers(1, 9), rows=st.integers(1, 11))
def test_places_follow_one_another(first: int, n: int, most: int, rows: int) -> None:
    shards_of = Shards(Path("x"), rows)
    found = [
        (int(place.file.stem[-5:]), place.row + i)
        for place in shards_of.places(first, n, most)
        for i in range(place.crops)
    ]
    assert found == [divmod(number, rows) for number in range(first, first + n)]
