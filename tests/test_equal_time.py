"""experiments/studies/equal_time.py on SYNTHETIC cells: both sides are trained for the same core seconds, and scored."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT


@pytest.mark.long
def test_both_sides_get_the_same_core_seconds(tmp_path: Path) -> None:
    study = ROOT / "experiments" / "studies" / "equal_time.py"
    settings = ["model=cnn", "data.cells=600", "data.specimens=20", f"data.loading.store_dir={tmp_path / 'stores'}"]
    subprocess.run([sys.executable, str(study), *settings, "core_seconds=15,30"], cwd=tmp_path, check=True)
    with (tmp_path / "equal_time.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["data"], row["model"]) for row in rows] == [("synthetic", "cnn")] * 2
    taken, updates, steps = ([float(row[name]) for row in rows] for name in ("core_seconds", "updates", "bare_steps"))
    assert taken[0] < taken[1]
    assert updates[0] < updates[1]
    assert steps[0] < steps[1]
    assert all(0 < float(row[name]) <= 1 for row in rows for name in ("macro_f1", "bare_macro_f1"))


def test_what_is_kept_is_ahead_as_the_benchmarks_state() -> None:
    with (ROOT / "experiments" / "studies" / "equal_time.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    assert {(row["data"], row["model"]) for row in rows} == {("endonuke", "cnn"), ("chula", "cnn")}
    for row in rows:
        ours, bare = float(row["macro_f1"]), float(row["bare_macro_f1"])
        assert ours > bare
        assert f"{ours:.3f} against {bare:.3f}" in text
