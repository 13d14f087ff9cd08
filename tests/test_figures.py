"""Figures from stored runs: what they draw, and what they refuse."""

import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from cellpatch.config import models
from cellpatch.plotting import looks
from cellpatch.record import replace_record

sys.path.insert(0, str(ROOT / "experiments"))
import figure3


def _record(runs: Path, name: str, **changes: Any) -> None:
    record = {
        "config": {
            "model": {"name": "cnn", "backbone": {"input_px": 40}},
            "adapt": {"name": "scratch"},
            "data": {"name": "cells"},
            "flag_limit": 8,
            "seed": 0,
        },
        "seconds": {"train": 2.0},
        "counts": {"train": {"a": 8, "b": 7}},
        "metrics": [
            {"kind": "none", "sigma": 0, "accuracy": 0.5, "macro_f1": 0.4, "balanced_accuracy": 0.5, "ece": 0.1}
        ],
    }
    record["config"] |= changes  # type: ignore[operator]
    (runs / name).mkdir(parents=True)
    replace_record(runs / name, record)


def test_one_figure_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _record(tmp_path / "runs", "a")
    _record(tmp_path / "runs", "b", flag_limit=16)
    assert [file.name for file in figure3.draw(tmp_path / "runs")] == ["figure3.png", "figure3.pdf"]
    _record(tmp_path / "runs", "c", data={"name": "other"})
    assert {file.stem for file in figure3.draw(tmp_path / "runs")} == {"figure3-cells", "figure3-other"}


def test_runs_that_differ_in_something_hidden_are_not_averaged(tmp_path: Path) -> None:
    _record(tmp_path / "runs", "a")
    _record(tmp_path / "runs", "b")
    with pytest.raises(ValueError, match=r"runs that differ in more than .* \['a', 'b'\]"):
        figure3.draw(tmp_path / "runs")


def test_no_runs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no finished run"):
        figure3.draw(tmp_path)


def test_a_models_colour_does_not_depend_on_its_company() -> None:
    assert looks(["customvit"])["customvit"] == looks(["cnn", "customvit", "new"])["customvit"]
    names = list(models())
    styles = looks([*names, "new"])
    assert len({(style["color"], style["marker"]) for style in styles.values()}) == len(names) + 1
    scratch = [name for name, pretrained in models().items() if not pretrained]
    assert len({styles[name]["color"] for name in scratch}) == len(scratch) == 8
