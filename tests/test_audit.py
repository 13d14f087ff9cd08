"""Labels to look at again: planted errors, copies and outliers are found, and shown as they are."""

import json
import re
import shutil
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, Invoke
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cellpatch.analysis.copies import find_partners
from cellpatch.analysis.label_errors import find_label_errors, with_prior
from cellpatch.analysis.out_of_sample import one_group, out_of_sample
from cellpatch.analysis.packed_results import pack
from cellpatch.analysis.results import read_results
from cellpatch.cli.audit import main as audit_main
from cellpatch.cli.train import main as train_main
from cellpatch.inference.outliers import neighbour_distance
from cellpatch.runs.folders import finished_runs
from cellpatch.runs.stored_run import StoredRun

COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "<b>blue</b>": (40, 40, 200)}
TRAIN = [
    "-m",
    "data=points",
    "data.root=slides",
    "data.points=points.csv",
    "data.image_um_per_px=0.5",
    "data.field_um=8",
]
TRAIN += ["data.margin_um=0", "model=colour", "flag_limit=50", "logger=none", "data/split=kfold", "data.split.folds=3"]
FLIPPED = ["p0-0", "p4-7", "p7-5"]


def test_flipped_labels_of_confident_networks_are_found_and_no_others() -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 600)
    probabilities = 0.9 * np.eye(3)[true] + 0.1 * rng.dirichlet(np.ones(3), 600)
    assert not find_label_errors(true, probabilities).likely.any()
    flipped = rng.choice(600, 30, replace=False)
    labels = true.copy()
    labels[flipped] = (labels[flipped] + rng.integers(1, 3, 30)) % 3
    found = find_label_errors(labels, probabilities)
    assert sorted(np.flatnonzero(found.likely)) == sorted(flipped)
    np.testing.assert_array_equal(found.suggested[flipped], true[flipped])
    assert found.quality[flipped].max() < np.delete(found.quality, flipped).min()
    assert ((found.quality >= 0) & (found.quality <= 1)).all()


def test_the_number_of_likely_errors_is_that_of_the_confident_joint() -> None:
    """Northcutt et al. (2021), eq. 1: thresholds are mean probabilities of own cells; the joint keeps label counts."""
    rng = np.random.default_rng(1)
    true = rng.choice(3, 3000, p=[0.5, 0.3, 0.2])
    labels = np.where(rng.random(3000) < 0.1, (true + rng.integers(1, 3, 3000)) % 3, true)
    probabilities = np.array([rng.dirichlet(6 * np.eye(3)[code] + 1) for code in true])
    thresholds = np.array([probabilities[labels == code, code].mean() for code in range(3)])
    joint = np.zeros((3, 3))
    for label, p in zip(labels, probabilities, strict=True):
        over = np.flatnonzero(p >= thresholds)
        if len(over):
            joint[label, over[np.argmax(p[over])]] += 1
    scaled = joint / joint.sum(axis=1, keepdims=True) * np.bincount(labels)[:, None]
    expected = scaled.sum() - np.trace(scaled)
    assert find_label_errors(labels, probabilities).likely.sum() == pytest.approx(expected, rel=0.1)


@settings(max_examples=25)
@given(st.integers(0, 1000))
def test_a_prior_is_exchanged_as_bayes_states(seed: int) -> None:
    rng = np.random.default_rng(seed)
    likelihood = rng.random((20, 4))
    presumed, frequencies = rng.dirichlet(np.ones(4), 2)
    before, after = (
        (likelihood * each) / (likelihood * each).sum(1, keepdims=True) for each in (presumed, frequencies)
    )
    np.testing.assert_allclose(with_prior(before, presumed, frequencies), after)
    np.testing.assert_allclose(with_prior(before, presumed, presumed), before)


def test_copies_are_of_other_specimens_and_of_another_label_first() -> None:
    rows = [
        ("a", "p1", "red", 0, b"1"),
        ("b", "p1", "red", 0, b"2"),  # the same specimen
        ("c", "p2", "red", 0, b"3"),
        ("d", "p3", "green", 0, b"4"),
        ("e", "p1", "red", None, b"5"),
        ("f", "p4", "red", None, b"5"),  # equal to the last pixel
        ("g", "p4", "red", None, b"6"),
    ]
    cells = pd.DataFrame(rows, columns=["cell_id", "specimen", "class", "near_group", "digest"])
    assert find_partners(cells).tolist() == [3, 3, 3, 0, 5, 4, -1]


def test_the_farthest_cell_is_the_outlier() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(1, 0.1, (50, 8))
    features[7] = -features[7]
    distance = neighbour_distance(features)
    assert distance.argmax() == 7
    assert np.median(distance) == pytest.approx(1)
    np.testing.assert_allclose(neighbour_distance(3 * features), distance)
    assert neighbour_distance(features[:1]).tolist() == [0]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine slides of twelve coloured cells; three labels are wrong, and p8 has a cell of p1 with another label."""
    folder, rng, rows = tmp_path_factory.mktemp("audit"), np.random.default_rng(0), []
    images = {}
    for specimen in range(9):
        image = rng.integers(90, 110, (64, 80, 3))
        for i in range(12):
            x, y = 20 * (i % 4) + 2, 20 * (i // 4) + 2
            name = list(COLOURS)[i % 3]
            image[y : y + 16, x : x + 16] = np.array(COLOURS[name]) + rng.integers(-30, 30, (16, 16, 3))
            label = list(COLOURS)[(i + 1) % 3] if f"p{specimen}-{i}" in FLIPPED else name
            rows.append((f"sub/p{specimen}.png", x + 8, y + 8, label, f"p{specimen}", f"p{specimen}-{i}"))
        images[specimen] = image
    images[8][42:58, 62:78] = images[1][2:18, 2:18]  # a red cell, where p8-11 is labelled blue
    for specimen, image in images.items():
        file = folder / "slides" / "sub" / f"p{specimen}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.astype(np.uint8)).save(file)
    table = pd.DataFrame(rows, columns=["image", "x", "y", "class", "specimen", "cell_id"])
    table.to_csv(folder / "points.csv", index=False)
    return folder


@pytest.fixture
def here(project: Path, tmp_path: Path, invoke: Invoke) -> Path:
    """A copy, with the runs of three folds, and of another limit in another folder."""
    if not (project / "runs").exists():
        words = [*TRAIN, "data.points=../points.csv", "data.contradictions=keep"]
        for runs, limit in (("runs", "50"), ("other", "8")):
            done = invoke(
                train_main, [*words, "data.split.fold=0,1,2", f"flag_limit={limit}", f"runs_dir={runs}"], project
            )
            assert done.returncode == 0, done.stderr
    return Path(shutil.copytree(project, tmp_path / "here"))


def test_an_audit_lists_what_was_planted(invoke: Invoke, here: Path) -> None:
    done = invoke(audit_main, ["runs", "--outliers", "2"], here)
    assert done.returncode == 0, done.stderr
    assert "audit: 108 cells audited" in done.stdout
    table = pd.read_csv(here / "audit" / "audit.csv").set_index("cell_id")
    wrong = table[table["reasons"].str.contains("likely label error")]
    assert set(wrong.index) <= {*FLIPPED, "p8-11"}
    assert len(wrong) >= 3, "with 36 cells a class one may be missed"
    assert wrong.loc["p4-7", ["label", "suggested"]].tolist() == ["<b>blue</b>", "green"]
    assert wrong.loc["p4-7", ["image", "x", "y", "specimen"]].tolist() == ["sub/p4.png", 70, 30, "p4"]
    assert table.loc["p8-11", ["copy_of", "reasons"]].tolist() == [
        "p1-0",
        "likely label error; copy with another label",
    ]
    assert "copy with another label" in table.loc["p1-0", "reasons"]
    assert table["reasons"].str.contains("outlier").sum() == 2
    assert table[[f"p_{name}" for name in COLOURS]].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-3)


def test_qupath_finds_the_cells_at_their_places(invoke: Invoke, here: Path) -> None:
    invoke(audit_main, ["runs", "--outliers", "0"], here)
    table = pd.read_csv(here / "audit" / "audit.csv")
    seen = 0
    for image, rows in table.groupby("image"):
        file = here / "audit" / "geojson" / f"{image}.geojson"
        points = geopandas.read_file(file)
        assert sorted(zip(points.geometry.x, points.geometry.y, strict=True)) == sorted(
            zip(rows["x"], rows["y"], strict=True)
        )
        for feature in json.loads(file.read_text())["features"]:
            properties = feature["properties"]
            assert properties["objectType"] == "annotation"
            assert properties["classification"]["name"] in ("likely label error", "copy with another label")
            assert 0 <= properties["measurements"]["label_quality"] <= 1
        seen += len(points)
    assert seen == len(table)
    assert len(list((here / "audit" / "geojson").rglob("*.geojson"))) == table["image"].nunique()


def test_the_page_escapes_names_and_loads_nothing(invoke: Invoke, here: Path) -> None:
    invoke(audit_main, ["runs"], here)
    page = (here / "audit" / "audit.html").read_text()
    assert "<b>blue</b>" not in page
    assert "&lt;b&gt;blue&lt;/b&gt;" in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert page.count("data:image/png;base64,") >= 6


def test_what_cannot_be_audited(invoke: Invoke, here: Path, tmp_path: Path) -> None:
    pack(read_results(here / "runs"), here / "packed.parquet")
    (here / "full").mkdir()
    (here / "full" / "mine.txt").write_text("keep")
    missing = next(run for run in finished_runs(here / "runs") if "-f1-" in run.name)
    two = [str(run) for run in finished_runs(here / "runs") if run != missing]
    for words, message in (
        (
            ["runs", "other"],
            "an audit takes the runs of one model at one limit. Choose one, such as\n  --models colour",
        ),
        (["packed.parquet"], "is packed, without its cells"),
        (two, "lacks data.split.fold=1"),
        (["runs", "--out", "full"], "--out full exists"),
        (["runs", "--out", "full", "--overwrite"], "must hold nothing but"),
        (["nowhere"], "nowhere"),
        (["runs", "--outliers", "-1"], "--outliers must be 0 or more, but got -1"),
    ):
        done = invoke(audit_main, words, here)
        assert done.returncode == 1, words
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    assert not (here / "audit").exists()
    assert (here / "full" / "mine.txt").exists()
    shutil.move(here / "stores", here / "elsewhere")
    done = invoke(audit_main, ["runs", "other", "--limit", "8"], here)
    assert "the command that trained it prepares one" in done.stderr


def test_one_fold_audits_its_own_cells_and_states_so(invoke: Invoke, here: Path) -> None:
    done = invoke(audit_main, ["runs", "--where", "data.split.fold=1", "--outliers", "0"], here)
    assert "36 cells audited" in done.stdout, done.stderr
    assert "only their test cells are audited: data.split=kfold audits every cell" in done.stdout
    again = invoke(audit_main, ["runs", "--overwrite", "--outliers", "0"], here)
    assert "108 cells audited" in again.stdout
    assert not list(here.glob(".audit*"))


def test_probabilities_are_those_of_the_network_that_did_not_see_the_cell(here: Path) -> None:
    tested = out_of_sample(one_group(read_results(here / "runs")))
    assert len(set(tested.cells["cell_id"])) == 108
    for number, run in enumerate(StoredRun.open(each.folder) for each in tested.trainings):
        own = tested.training == number
        rows = run.clean_predictions.rows
        assert set(tested.cells["cell_id"][own]) == set(rows["cell_id"])


def test_the_page_of_docs_has_the_kept_figures() -> None:
    table = pd.read_csv(ROOT / "experiments" / "studies" / "label_audit.csv")
    page = (ROOT / "docs" / "audit.md").read_text()
    for _, rows in table.groupby(["data", "model"]):
        for column, digits in (("listed", 0), ("precision", 3), ("recall", 3), ("average_precision", 3)):
            assert f"| {' and '.join(f'{value:.{digits}f}' for value in rows[column])} |" in page
