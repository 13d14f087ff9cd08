"""Sources whose images are crops already: folder, table, npz."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from PIL import Image

from cellpatch.data.images.decoding import decode
from cellpatch.data.sources.folder import Folder
from cellpatch.data.sources.npz import Npz
from cellpatch.data.sources.source import prepare_store
from cellpatch.data.sources.table import Table
from cellpatch.data.store.reader import CellStore
from cellpatch.runtime.error_collector import ErrorCollector

FolderMaker = Callable[..., Path]


def _folder(root: Path, **changes: Any) -> Folder:
    settings: dict[str, Any] = {
        "root": str(root),
        "specimen_pattern": None,
        "side_px": None,
        "margin_px": 0,
        "um_per_px": None,
        "orientation": "refuse",
        "contradictions": "refuse",
        "licence": "none",
        "synthetic": False,
    }
    return Folder(**settings | changes)


def _table(file: Path, **changes: Any) -> Table:
    settings: dict[str, Any] = {
        "table": str(file),
        "root": None,
        "classes": None,
        "side_px": None,
        "margin_px": 0,
        "um_per_px": None,
        "orientation": "refuse",
        "contradictions": "refuse",
        "licence": "none",
        "synthetic": False,
    }
    return Table(**settings | changes)


def _store(tmp_path: Path, source: Any) -> CellStore:
    return CellStore(prepare_store(source, "cells", tmp_path / "stores"))


def _assert_nothing_left(tmp_path: Path) -> None:
    assert not [f for f in (tmp_path / "stores").glob("*") if f.suffix != ".lock"]


def test_folder(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    root = folder_of_squares()
    store = _store(tmp_path, _folder(root))
    assert store.manifest.classes == ["blue", "green", "red"]
    assert store.manifest.counts == {"blue": 12, "green": 12, "red": 12}
    assert sorted(store.cells["specimen"].unique()) == [f"specimen{i}" for i in range(4)]
    first = root / store.cells["source"][0]
    np.testing.assert_array_equal(store.crops(np.array([0]))[0], np.asarray(Image.open(first)))


def test_names_beyond_ascii(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    root = folder_of_squares(name="細胞 Zellen")
    (root / "red").rename(root / "リンパ球")
    (root / "green" / "specimen0").rename(root / "green" / "Fall Ä")
    store = _store(tmp_path, _folder(root))
    assert store.manifest.classes == ["blue", "green", "リンパ球"]
    assert "Fall Ä" in set(store.cells["specimen"])
    assert CellStore(store.root).manifest == store.manifest


def test_linked_folders_are_followed(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    root = folder_of_squares()
    (tmp_path / "linked").mkdir()
    for label in ("red", "green", "blue"):
        (tmp_path / "linked" / label).symlink_to(root / label)
    assert _store(tmp_path, _folder(tmp_path / "linked")).manifest.counts == {"blue": 12, "green": 12, "red": 12}


def test_folder_with_a_pattern_and_a_margin(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    store = _store(tmp_path, _folder(folder_of_squares(), specimen_pattern=r"specimen(\d)", margin_px=3))
    assert set(store.cells["specimen"]) == set("0123")
    assert (store.geometry.crop_px, store.geometry.margin_px) == (10, 3)


def test_an_edited_folder_is_another_store(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    root = folder_of_squares()
    first = prepare_store(_folder(root), "cells", tmp_path / "stores")
    assert prepare_store(_folder(root), "cells", tmp_path / "stores") == first
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(root / "red" / "specimen0" / "new.png")
    assert prepare_store(_folder(root), "cells", tmp_path / "stores") != first


def test_all_bad_images_in_one_error_first_twenty_shown(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    root = folder_of_squares()
    files = sorted((root / "red").rglob("*.png")) + sorted((root / "blue").rglob("*.png"))
    for file in files[:23]:
        file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(ValueError, match="23 problems in the input") as caught:
        _store(tmp_path, _folder(root))
    assert str(caught.value).count("cannot be read as an image") == 20
    assert "... and 3 more" in str(caught.value)
    _assert_nothing_left(tmp_path)


def test_folders_that_cannot_be_read(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: contains no readable image"):
        _store(tmp_path, _folder(tmp_path / "empty"))
    with pytest.raises(ValueError, match="data.root must be a folder, but got"):
        _folder(tmp_path / "nowhere")
    root = folder_of_squares()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(root / "loose.png")
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(root / "red" / "flat.png")
    with pytest.raises(ValueError, match="2 problems") as caught:
        _store(tmp_path, _folder(root))
    assert "loose.png: is not in a class folder" in str(caught.value)
    assert "flat.png: has no specimen according to CLASS/SPECIMEN/image" in str(caught.value)


def test_folders_without_specimens_are_one_problem_whose_hint_helps(tmp_path: Path) -> None:
    """A student's folders: CLASS/SPECIMEN_NUMBER.png. Each of 40 files was a line, none named what to type."""
    for label in ("target_cell", "normal"):
        (tmp_path / "cells" / label).mkdir(parents=True)
        for i in range(6):
            square = Image.fromarray(np.full((16, 16, 3), 20 * i + len(label), np.uint8))
            square.save(tmp_path / "cells" / label / f"p{i % 3}_{i}_9.png")
    with pytest.raises(ValueError, match="1 problem in the input") as caught:
        _store(tmp_path, _folder(tmp_path / "cells"))
    assert "and all other images have no specimen according to CLASS/SPECIMEN/image" in str(caught.value)
    [pattern] = re.findall(r"'data.specimen_pattern=\"(.+)\"'$", str(caught.value))
    store = _store(tmp_path, _folder(tmp_path / "cells", specimen_pattern=pattern))
    assert sorted(set(store.cells["specimen"])) == ["p0", "p1", "p2"]
    (tmp_path / "cells" / "normal" / "nameless.png").write_bytes((tmp_path / "cells/normal/p0_0_9.png").read_bytes())
    with pytest.raises(ValueError, match="nameless.png: has no specimen according to"):
        _store(tmp_path / "other", _folder(tmp_path / "cells", specimen_pattern=pattern))


def test_processes_decode_as_one_does(
    tmp_path: Path, folder_of_squares: FolderMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 75 files one is broken and one larger: in the first 64 each image comes by itself, the rest as one array."""
    root = folder_of_squares(per_class=25)
    files = [(file, file.name) for file in sorted(root.rglob("*.png"))]
    files[10][0].write_bytes(b"broken")
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(files[20][0])
    images, messages = [], []
    for worth in (0, 10**6):
        monkeypatch.setattr("cellpatch.data.images.decoding._WORTH_PROCESSES", worth)
        problems = ErrorCollector()
        images.append(list(decode(files, problems)))
        messages.append(problems.messages)
    assert [i for i, _ in images[0]] == [i for i in range(75) if i != 10]
    for (i, one), (_, other) in zip(*images, strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(one, np.asarray(Image.open(files[i][0])))
    assert messages[0] == messages[1]
    assert len(messages[0]) == 1
    assert "cannot be read as an image" in messages[0][0]


def test_sides_must_agree_or_be_resized(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    root = folder_of_squares()
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(root / "red" / "specimen0" / "large.png")
    with pytest.raises(ValueError, match=r"large.png: is 20 px wide, the first image 16 px; set data.side_px"):
        _store(tmp_path, _folder(root))
    assert _store(tmp_path, _folder(root, side_px=24)).geometry.side_px == 24
    Image.fromarray(np.zeros((20, 18, 3), np.uint8)).save(root / "red" / "specimen0" / "oblong.png")
    with pytest.raises(ValueError, match=r"oblong.png: must be square, but got 18x20 px"):
        _store(tmp_path, _folder(root, side_px=24))
    Image.fromarray(np.zeros((1, 1, 3), np.uint8)).save(tmp_path / "blue.png")
    with pytest.raises(ValueError, match="at least 4 px inside its margin"):
        _store(tmp_path, _folder(folder_of_squares(side=7, name="tiny"), margin_px=2))
    with pytest.raises(ValueError, match="data.margin_px must leave a crop inside 16 px, but got 8"):
        _store(tmp_path, _folder(folder_of_squares(name="other"), margin_px=8))


def _written_table(folder_of_squares: FolderMaker) -> tuple[Path, pd.DataFrame]:
    root = folder_of_squares()
    files = sorted(root.rglob("*.png"))
    rows = [(f.relative_to(root).as_posix(), f.parts[-3], f.parts[-2]) for f in files]
    return root / "cells.csv", pd.DataFrame(rows, columns=["path", "class", "specimen"])


def test_table(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    file, rows = _written_table(folder_of_squares)
    rows.to_csv(file, index=False)
    store = _store(tmp_path, _table(file))
    assert store.manifest.counts == {"blue": 12, "green": 12, "red": 12}
    assert store.cells["source"][0] == "cells.csv, row 2"
    rows.assign(split="train").to_csv(file, index=False)
    assert set(_store(tmp_path, _table(file, classes=["red", "green", "blue"])).cells["split"]) == {"train"}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.drop(columns="specimen"), r"cells.csv: has no column \['specimen'\]"),
        (lambda t: t.replace("red", "violet"), r"cells.csv, row 26: unknown class 'violet'"),
        (
            lambda t: pd.concat([t, t[:1]]),
            r"row 38: duplicate cell_id 'blue/.*', first seen at cells.csv, row 2",
        ),
        (lambda t: t.assign(path="../" + t["path"]), r"cells.csv, row 2: '../blue/.* points outside"),
        (
            lambda t: t.assign(path="x" + t["path"]),
            r"36 problems in the input:\n  cells.csv, row 2: .*no such image",
        ),
        (lambda t: t.assign(split="dev"), r"cells.csv, row 2: split must be one of"),
        (lambda t: t.assign(specimen=""), r"cells.csv, row 2: column 'specimen' is empty"),
    ],
)
def test_bad_tables_name_file_and_row(
    tmp_path: Path, folder_of_squares: FolderMaker, edit: Callable[[pd.DataFrame], pd.DataFrame], message: str
) -> None:
    file, rows = _written_table(folder_of_squares)
    edit(rows).to_csv(file, index=False)
    with pytest.raises(ValueError, match=message):
        _store(tmp_path, _table(file, classes=["red", "green", "blue"]))
    _assert_nothing_left(tmp_path)


def test_broken_table(tmp_path: Path) -> None:
    (tmp_path / "cells.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(ValueError, match=r"cells.parquet: cannot be read as a table"):
        _store(tmp_path, _table(tmp_path / "cells.parquet"))
    (tmp_path / "cells.csv").touch()
    with pytest.raises(ValueError, match=r"cells.csv: cannot be read as a table"):
        _store(tmp_path, _table(tmp_path / "cells.csv"))
    with pytest.raises(ValueError, match=r"gone.csv: no such table"):
        _store(tmp_path, _table(tmp_path / "gone.csv"))


def _arrays(grey: bool = False) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {}
    for part, n in (("train", 30), ("val", 9), ("test", 12)):
        shape = (n, 8, 8) if grey else (n, 8, 8, 3)
        arrays[f"{part}_images"] = rng.integers(0, 256, shape, dtype=np.uint8)
        arrays[f"{part}_labels"] = (np.arange(n) % 3).astype(np.uint8)[:, None]
    return arrays


def _npz(file: Path, classes: list[str] | None = None) -> Npz:
    return Npz(str(file), classes=classes, um_per_px=None, contradictions="refuse", licence="none", synthetic=False)


@pytest.mark.parametrize("grey", [False, True])
def test_npz(tmp_path: Path, grey: bool) -> None:
    arrays = _arrays(grey)
    np.savez_compressed(tmp_path / "mnist.npz", **arrays)
    store = _store(tmp_path, _npz(tmp_path / "mnist.npz", ["zero", "one", "two"]))
    assert store.manifest.counts == {"zero": 17, "one": 17, "two": 17}
    assert store.cells["split"].value_counts().to_dict() == {"train": 30, "test": 12, "validation": 9}
    crops = store.crops(np.arange(30))
    np.testing.assert_array_equal(crops[..., 1] if grey else crops, arrays["train_images"])


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda a: a.pop("val_labels"), "does not contain val_labels"),
        (lambda a: a.update(train_labels=np.zeros((30, 14), np.uint8)), "one class a cell"),
        (lambda a: a.update(train_images=a["train_images"].astype(np.float32)), "must be uint8"),
        (
            lambda a: a.update(train_labels=a["train_labels"][:-1]),
            "train_images has 30 rows, train_labels 29",
        ),
        (lambda a: a.update(train_labels=a["train_labels"] + 5), "label 7 has no name"),
        (lambda a: a.update(train_images=np.zeros((30, 8, 9, 3), np.uint8)), "must be"),
        (lambda a: a.update(train_labels=np.array([{}] * 30)), "plain C-ordered array, but got object"),
    ],
)
def test_bad_npz(tmp_path: Path, edit: Callable[[dict[str, np.ndarray]], Any], message: str) -> None:
    arrays = _arrays()
    edit(arrays)
    np.savez(tmp_path / "mnist.npz", **arrays)
    with pytest.raises(ValueError, match=message) as caught:
        _store(tmp_path, _npz(tmp_path / "mnist.npz", ["zero", "one", "two"]))
    assert "mnist.npz" in str(caught.value)
    _assert_nothing_left(tmp_path)


def test_no_npz(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"PK not a zip")
    with pytest.raises(ValueError, match=r"x.npz: is not a readable .npz"):
        _store(tmp_path, _npz(tmp_path / "x.npz"))
    with pytest.raises(ValueError, match="no such file"):
        _npz(tmp_path / "y.npz")


def test_what_fails_beside_working_processes_leaves_nothing(
    tmp_path: Path, folder_of_squares: FolderMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row is rejected while processes write the crops of later ones, which would make the folder anew."""
    monkeypatch.setattr("cellpatch.data.images.decoding._WORTH_PROCESSES", 0)
    root = folder_of_squares(per_class=200)
    files = sorted(root.rglob("*.png"))
    rows = [(f"{file.relative_to(root)}", file.parts[-3], file.parts[-2], "same") for file in files]
    table = tmp_path / "cells.csv"
    pd.DataFrame(rows, columns=["path", "class", "specimen", "cell_id"]).to_csv(table, index=False)
    with pytest.raises(ValueError, match="duplicate cell_id 'same'"):
        prepare_store(_table(table, root=str(root)), "cells", tmp_path / "stores")
    _assert_nothing_left(tmp_path)


def test_a_full_disk_in_a_process_leaves_nothing(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    """A file-size limit, which processes inherit, stands for the full disk."""
    root = folder_of_squares(per_class=200)
    program = f"""
import resource
from pathlib import Path
from cellpatch.data.images import decoding
from cellpatch.data.sources.source import prepare_store
from test_crop_sources import _folder
if __name__ == "__main__":
    decoding._WORTH_PROCESSES = 0
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    prepare_store(_folder(Path({str(root)!r})), "cells", Path({str(tmp_path)!r}) / "stores")
"""
    script = tmp_path / "script.py"
    script.write_text(program)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode != 0
    assert "no room to write" in done.stderr
    _assert_nothing_left(tmp_path)
