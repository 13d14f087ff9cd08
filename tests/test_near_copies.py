"""Crops that are nearly the same in two specimens: found, counted, in the audit; different cells are not."""

import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from caveats import caveats
from conftest import config_of, from_shared
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from simulated import restated, simulated
from stored import read_record
from test_crop_sources import _folder, _store
from test_points import _points

from cellpatch.analysis.groups import group_by_seed
from cellpatch.config.assemble import assemble
from cellpatch.data.dataset import open_dataset, open_store
from cellpatch.data.split_copies import LeftOut, count_near_copies
from cellpatch.data.splits import BySpecimen
from cellpatch.data.store import near_copies
from cellpatch.data.store.near_copies import NEAR, NEAR_COPIES, near_groups, signatures
from cellpatch.data.store.reader import CellStore
from cellpatch.data.synthetic.source import Synthetic
from cellpatch.figures.captions import sample_size_caption
from cellpatch.sweeps.train import train

SIDE = 32


def _scene(seed: int, side: int = SIDE + 4) -> np.ndarray:
    """A smooth picture, as tissue is at this scale, with grain."""
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.normal(0, 1, (side, side, 1)), (2, 2, 0))
    grain = rng.normal(0, 2, (side, side, 3))
    return np.clip((150, 130, 160) + 30 * smooth / smooth.std() + grain, 0, 250).astype(np.uint8)


def _crop(seed: int, row: int = 2, column: int = 2) -> np.ndarray:
    return _scene(seed)[row : row + SIDE, column : column + SIDE]


def _jpeg(crop: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(crop).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


TWINS: dict[str, Callable[[int], np.ndarray]] = {
    "JPEG 90": lambda seed: _jpeg(_crop(seed), 90),
    "JPEG 75": lambda seed: _jpeg(_crop(seed), 75),
    "brighter": lambda seed: _crop(seed) + np.uint8(3),
    "right": lambda seed: _crop(seed, column=3),
    "left": lambda seed: _crop(seed, column=1),
    "down": lambda seed: _crop(seed, row=3),
    "up": lambda seed: _crop(seed, row=1),
    "down and right": lambda seed: _crop(seed, 3, 3),
    "up and left": lambda seed: _crop(seed, 1, 1),
    "down and left": lambda seed: _crop(seed, 3, 1),
    "up and right": lambda seed: _crop(seed, 1, 3),
    "up, right, JPEG 75": lambda seed: _jpeg(_crop(seed, 1, 3), 75),
}


def _groups(crops: list[np.ndarray], specimens: list[str]) -> list[int]:
    digests = np.array([crop.tobytes() for crop in crops])
    return near_groups(signatures(np.stack(crops)), np.unique(specimens, return_inverse=True)[1], digests).tolist()


@pytest.mark.parametrize("twin", TWINS)
def test_a_twin_of_another_specimen_shares_a_group(twin: str) -> None:
    crops = [*map(_crop, range(20)), TWINS[twin](7)]
    specimens = [f"p{i}" for i in range(20)]
    assert _groups(crops, [*specimens, "q"]) == [0 if i in (7, 20) else -1 for i in range(21)]
    assert set(_groups(crops, [*specimens, "p7"])) == {-1}, "twice in one specimen is not a leak"


def test_what_is_equal_to_the_last_pixel_is_counted_elsewhere() -> None:
    crops = [_crop(0), _crop(0), _crop(1)]
    assert _groups(crops, ["p", "q", "r"]) == [-1, -1, -1]
    assert _groups([*crops, TWINS["JPEG 75"](0)], ["p", "q", "r", "p"]) == [0, 0, -1, 0], "its copy is another's twin"


def test_flat_and_tiny_crops_are_not_compared() -> None:
    rng = np.random.default_rng(0)
    flat = rng.integers(240, 243, (40, SIDE, SIDE, 3), dtype=np.uint8)
    assert not signatures(flat).any()
    assert not signatures(rng.integers(0, 256, (4, 7, 7, 3), dtype=np.uint8)).any()
    assert set(_groups(list(flat), [f"p{i}" for i in range(40)])) == {-1}


def test_thousands_of_alike_crops_are_one_group() -> None:
    rng = np.random.default_rng(0)
    alike = np.clip(_crop(0) + rng.integers(-2, 3, (3000, SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
    assert set(_groups(list(alike), [f"p{i % 7}" for i in range(3000)])) == {0}


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 30), noise=st.floats(0.5, 12), specimens=st.integers(1, 5))
def test_groups_are_those_of_brute_force(seed: int, n: int, noise: float, specimens: int) -> None:
    """Few enough that no crop has more candidates than are compared; distances lie on both sides of the bound."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 50, (3, 36))
    drawn = centres[rng.integers(0, 3, n)][:, None] + rng.normal(0, noise, (n, 5, 36))
    of_cells = np.clip(np.rint(drawn), -127, 127).astype(np.int8)
    specimen, digest = rng.integers(0, specimens, n), np.arange(n).astype("S16")
    units = of_cells / np.linalg.norm(of_cells.astype(float), axis=-1, keepdims=True)
    distance = np.linalg.norm(units[:, None] - units[None, :, :1], axis=-1).min(
        axis=-1
    )  # i in any window, j in its middle
    near = (np.minimum(distance, distance.T) <= NEAR) & (specimen[:, None] != specimen)
    _, component = connected_components(near)
    groups = near_groups(of_cells, specimen, digest)
    np.testing.assert_array_equal(groups >= 0, near.any(axis=1))
    inside = np.flatnonzero(groups >= 0)
    np.testing.assert_array_equal(
        groups[inside][:, None] == groups[inside], component[inside][:, None] == component[inside]
    )


def _write_cells(root: Path) -> Path:
    """Two classes, three patients each, four cells a patient; twins of a/p0 and b/p1 lie under p3."""
    for code, name in enumerate("ab"):
        for i in range(12):
            file = root / name / f"p{i % 3}" / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(_crop(100 * code + i)).save(file)
    (root / "a" / "p3").mkdir()
    (root / "b" / "p3").mkdir()
    Image.fromarray(_crop(0)).save(root / "a" / "p3" / "again.jpg", quality=75)
    Image.fromarray(_crop(101, column=3)).save(root / "b" / "p3" / "shifted.png")
    return root


def test_a_folder_s_twins_are_counted_and_numbered(tmp_path: Path) -> None:
    store = _store(tmp_path, _folder(_write_cells(tmp_path / "cells")))
    assert store.manifest.doubtful == {NEAR_COPIES: 4}
    groups = store.cells.set_index("source")["near_group"].dropna()
    assert groups.index.tolist() == ["a/p0/0.png", "a/p3/again.jpg", "b/p1/1.png", "b/p3/shifted.png"]
    assert groups["a/p0/0.png"] == groups["a/p3/again.jpg"] != groups["b/p1/1.png"] == groups["b/p3/shifted.png"]
    other = _store(tmp_path, _folder(_write_cells(tmp_path / "kept"), contradictions="drop"))
    assert other.manifest.fingerprint == store.manifest.fingerprint


def test_dropped_cells_keep_no_group_and_shift_none(tmp_path: Path) -> None:
    root = _write_cells(tmp_path / "cells")
    (root / "b" / "p2" / "copy.jpg").write_bytes((root / "a" / "p3" / "again.jpg").read_bytes())
    store = _store(tmp_path, _folder(root, contradictions="drop"))
    assert store.manifest.doubtful == {NEAR_COPIES: 2}
    assert store.cells.dropna(subset="near_group")["source"].tolist() == ["b/p1/1.png", "b/p3/shifted.png"]


def test_the_audit_counts_and_the_log_warns(
    tmp_path: Path, folder_of_squares: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    small = ["model=cnn", "model.backbone.input_px=16", "model.backbone.widths=[4]", "trainer.max_epochs=1"]
    root = folder_of_squares(20, 5)
    first = read_record(tmp_path / "runs" / train(config_of(tmp_path, root, *small)).run)
    assert "near_copies_of_test_crops" not in first["audit"]
    assert "nearly equal" not in caplog.text
    parts = _parts(tmp_path, root, small)
    tested, trained = sorted(parts["test"])[0], sorted(parts["train"])[0]
    source = sorted((root / "red" / tested).glob("*.png"))[0]
    twin = np.asarray(Image.open(source)).copy()
    twin[0, 0, 0] += 1
    Image.fromarray(twin).save(root / "red" / trained / "twin.png")
    with caplog.at_level(logging.WARNING):
        record = read_record(tmp_path / "runs" / train(config_of(tmp_path, root, *small)).run)
    assert record["audit"]["near_copies_of_test_crops"] == {"train": 1, "validation": 0}
    assert "1 training and 0 validation cells share a near_group with a test cell: if they show" in caplog.text
    assert record["data"]["intake"]["doubtful"] == {NEAR_COPIES: 2}
    assert "set data.split.near_copies=drop_cells, or drop_specimens for all cells of their specimens" in caplog.text
    with caplog.at_level(logging.INFO):
        dropped = [*small, "data.split.near_copies=drop_specimens"]
        without = read_record(tmp_path / "runs" / train(config_of(tmp_path, root, *dropped)).run)
    assert without["identity"] != record["identity"]
    of_specimen = len([*(root / "red" / trained).glob("*"), *(root / "green" / trained).glob("*")])
    of_specimen += len(list((root / "blue" / trained).glob("*")))
    assert without["audit"]["left_out_as_near_copies"] == {
        "train": {"cells": of_specimen, "specimens": 1},
        "validation": {"cells": 0, "specimens": 0},
    }
    assert "near_copies_of_test_crops" not in without["audit"]
    assert without["counts"]["test"] == record["counts"]["test"]
    assert f"{of_specimen} training cells of 1 specimens, 0 validation cells of 0" in caplog.text


def _parts(tmp_path: Path, root: Path, small: list[str]) -> dict[str, set[str]]:
    """The specimens of a run's training and test cells."""
    experiment = assemble(config_of(tmp_path, root, *small))
    store = open_store(experiment.data)
    split = open_dataset(store, experiment.data.split, experiment.flag_limit, experiment.seed).split
    specimen = store.cells["specimen"].astype(str).to_numpy()
    return {name: set(specimen[getattr(split, name)]) for name in ("train", "test")}


def test_cells_in_a_group_with_a_test_cell_are_counted_by_part() -> None:
    groups = np.array([0, 0, 1, 1, 2, -1, -1, 0])
    parts = {"train": np.array([0, 2, 5]), "validation": np.array([3, 7]), "test": np.array([1, 4, 6])}
    assert count_near_copies(groups, parts) == {"train": 1, "validation": 1}
    assert count_near_copies(groups, parts | {"test": np.array([4, 6])}) is None


@pytest.mark.long
def test_no_two_synthetic_cells_are_nearly_the_same(tmp_path: Path) -> None:
    store = _store(tmp_path, Synthetic(cells=2000, specimens=12, seed=0, workers=1))
    assert store.cells["near_group"].isna().all()
    assert NEAR_COPIES not in store.manifest.doubtful


@pytest.mark.long
def test_no_two_nuclei_of_endonuke_are_nearly_the_same(tmp_path: Path, endonuke: Path) -> None:
    scale: Any = {"endonuke_data": 0.5, "staining_ds": 0.25}
    names = {0: "stroma", 1: "epithelium", 2: "other"}
    pattern = "([^/ .]+)[^/]*$"
    fixed: dict[str, Any] = {"layout": "endonuke", "class_names": names, "specimen_pattern": pattern}
    store = _read(tmp_path, endonuke, points="*/labels/*.txt", image_um_per_px=scale, um_per_px=0.5, **fixed)
    assert len(store) > 20000
    assert NEAR_COPIES not in store.manifest.doubtful


@pytest.mark.long
def test_red_cells_that_were_photographed_twice_are_found(tmp_path: Path) -> None:
    """Images 296 and 298 of Chula RBC-12 are one field to the last pixel, and no set of patients shows it."""
    root = from_shared("data/chula_rbc12")
    store = _read(tmp_path, root, points="points.csv", image_um_per_px=0.19, field_um=11.0)
    assert store.manifest.doubtful[NEAR_COPIES] == 114
    near = store.cells.dropna(subset="near_group").astype({"specimen": str}).groupby("near_group")["specimen"]
    pairs = near.agg(lambda images: " ".join(sorted(images, key=int)))
    assert (pairs == "296 298").sum() >= 6
    split = BySpecimen(0, 0.2, 0.2, 512, ["uncategorised"], "drop_specimens")
    audit = open_dataset(store, split, 16384, 0).split.audit
    assert audit.left_out_as_near_copies == {"train": LeftOut(278, 7), "validation": LeftOut(95, 1)}


def _read(tmp_path: Path, root: Path, **changes: Any) -> CellStore:
    return _store(tmp_path, _points(root, **{"margin_um": 3.2, "border": "reflect_margin"} | changes))


def test_the_report_names_near_copies_and_splits_by_cell() -> None:
    runs = simulated(limits=(256,), seeds=(0,))
    plain = caveats(group_by_seed(runs))
    near = {"by": "specimen", "near_copies_of_test_crops": {"train": 12, "validation": 3}}
    named = caveats(group_by_seed([restated(runs[0], audit=near), *runs[1:]]))
    assert [each for each in named if each not in plain] == [
        "Up to 12 training and 3 validation cells of a run are in a group of nearly equal crops with a test cell of "
        "another specimen: if they show the same cell, scores are too good. Leave them out with "
        "data.split.near_copies=drop_cells or drop_specimens."
    ]
    counts = {"train": {"cells": 40, "specimens": 2}, "validation": {"cells": 0, "specimens": 0}}
    audit = {"by": "specimen", "left_out_as_near_copies": counts}
    named = caveats(group_by_seed([restated(runs[0], audit=audit), *runs[1:]]))
    assert [each for each in named if each not in plain] == [
        "Left out, because they or cells of their specimens nearly equal a test cell of another specimen: 40 training "
        "cells of 2 specimens and 0 validation cells of 0."
    ]
    by_cell = group_by_seed([restated(run, audit={"by": "cell"}) for run in runs])
    assert any(each.startswith("Cells were split at random, not by specimen") for each in caveats(by_cell))
    assert "whose other cells were trained on (the split is by cell)" in sample_size_caption(by_cell)


@pytest.mark.parametrize("crowd", [0, 40, 400])
def test_crowded_points_are_those_of_brute_force(crowd: int) -> None:
    rng = np.random.default_rng(crowd)
    points = np.concatenate([rng.normal(size=(3000, 8)), 1 + 0.02 * rng.normal(size=(crowd, 8))])
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    crowded = near_copies._are_crowded(cKDTree(points), points)
    np.testing.assert_array_equal(crowded, (distances < near_copies._RADIUS).sum(axis=1) > near_copies._NEIGHBOURS)
    assert crowded.any() == (crowd > 0)
