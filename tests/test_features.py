"""What features know: known answers, and the card of a real run."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import config_of
from stored import read_record

from cellpatch.cli import features as features_command
from cellpatch.inference import separability
from cellpatch.runs.verify import verify
from cellpatch.sweeps.train import train


def _cells(n: int = 600) -> tuple[np.random.Generator, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng, rng.integers(0, 3, n), rng.integers(0, 12, n)


def test_features_that_hold_the_specimen_name_it() -> None:
    rng, _, specimens = _cells()
    noise = rng.normal(size=(600, 8)).astype(np.float32)
    right, chance = separability.specimen_accuracy(np.hstack([np.eye(12)[specimens] * 9, noise]), specimens)
    assert right > 0.99
    assert chance == pytest.approx(np.bincount(specimens).max() / 600, abs=0.01)
    blind, chance = separability.specimen_accuracy(noise, specimens)
    assert abs(blind - chance) < 0.04
    with pytest.raises(ValueError, match="two specimens with 5 test cells are needed"):
        separability.specimen_accuracy(noise[:8], np.array([0] * 5 + [1] * 3))


def test_separability_of_apart_and_of_mixed_classes() -> None:
    rng, labels, specimens = _cells()
    noise = rng.normal(size=(600, 8))
    apart = np.hstack([np.eye(3)[labels] * 99, noise])
    assert separability.separability(apart, labels, specimens) == {0: 1.0, 1: 1.0, 2: 1.0}
    for share in separability.separability(noise, labels, specimens).values():
        assert share == pytest.approx(1 / 3, abs=0.05)
    assert list(separability.separability(noise, np.where(labels == 2, 7, 0), specimens)) == [0, 7]


def test_neighbours_are_of_other_specimens() -> None:
    rng, _, specimens = _cells()
    labels = specimens % 3  # a specimen is of one class, and alike in itself alone
    alike = rng.normal(size=(12, 40))[specimens] + rng.normal(size=(600, 40)) * 0.01
    shares = separability.separability(alike, labels, specimens)
    assert max(shares.values()) < 0.9, "without the rule it would be 1"


def test_a_rare_class_can_be_apart_too() -> None:
    labels = np.repeat([0, 1, 2], 10)
    specimens = np.concatenate([np.tile([0, 1], 5), np.tile([0, 1], 5), np.full(10, 2)])
    apart = np.eye(3)[labels] * 9 + np.random.default_rng(0).normal(size=(30, 3)) * 0.01
    assert separability.separability(apart, labels, specimens) == {0: 1.0, 1: 1.0}, "five neighbours each; 2 is in one"


def test_separability_needs_a_class_in_two_specimens() -> None:
    labels, specimens = np.repeat([0, 1], 12), np.repeat([0, 1], 12)
    with pytest.raises(ValueError, match="a class with 10 test cells in two specimens is needed, but cells are"):
        separability.separability(np.ones((24, 2)), labels, specimens)


def test_few_cells_by_hand() -> None:
    labels, specimens = np.repeat([0, 1], 11), np.tile(np.arange(11), 2)
    angle = np.concatenate([np.linspace(0, 0.1, 11), np.linspace(1, 1.1, 11)])
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    assert separability.separability(circle, labels, specimens) == {0: 1.0, 1: 1.0}, "ten others of each class"
    circle[0] = circle[-1]  # a cell of class 0 among class 1: its ten nearest but its own specimen's are of class 1
    assert separability.separability(circle, labels, specimens)[0] == pytest.approx((0 + 10 * 0.9) / 11, abs=0.02)


def test_the_map_has_the_directions_of_largest_variance() -> None:
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(90, 5)) @ rng.normal(size=(5, 5)), np.repeat([0, 2], [60, 30])
    found = separability.feature_map(features, labels, ["a", "b", "c"])
    assert {name: len(points) for name, points in found.points.items()} == {"a": 60, "c": 30}
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    variances = np.linalg.svd(scaled, compute_uv=False) ** 2
    assert found.explained == pytest.approx(tuple(variances[:2] / variances.sum()), abs=1e-4)
    x, y = np.concatenate([found.points["a"], found.points["c"]]).T
    assert [x.var() * 90, y.var() * 90] == pytest.approx(list(variances[:2]), rel=1e-3)
    many = separability.feature_map(rng.normal(size=(1500, 3)), np.repeat([0, 1, 2], [1000, 450, 50]), ["a", "b", "c"])
    assert [len(points) for points in many.points.values()] == [133, 133, 50]


def test_the_card_of_a_run(
    tmp_path: Path, folder_of_squares: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["model=cnn", "model.backbone.input_px=16", "model.backbone.widths=[4]", "optics.via_px=16"]
    train(config_of(tmp_path, folder_of_squares(150, 15), *small, "trainer.max_epochs=1", "flag_limit=8"))
    [file] = (tmp_path / "runs").glob("*/record.json")
    features_command.main([str(file.parent)])
    output = capsys.readouterr().out
    found = read_record(file.parent)["features"]
    assert f"predicts the specimen of {100 * found['specimen_accuracy']:.1f} % of the cells (chance" in output
    assert set(found["separability"]) == set(found["map"]["points"]) == {"red", "green", "blue"}
    assert found["n"] == read_record(file.parent)["metrics"][0]["n_test"]
    assert verify(tmp_path / "runs") == [], "the run is as it was written"
    shutil.rmtree(tmp_path / "stores")
    with pytest.raises(SystemExit, match="1"):
        features_command.main([str(file.parent)])
    assert "holds its cells: the command that trained it prepares one" in capsys.readouterr().err
