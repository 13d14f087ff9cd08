"""Benchmarks measure what they say: their arithmetic, and that each one is in the suite."""

import importlib
import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import run_overhead
import scaling
import suite
from conftest import ROOT
from measured import Measured, as_line, in_turn, option_parser, report, share_of_time, times_as_fast

from cellpatch.runs.record import Seconds


def test_ratios_are_of_pairs_and_marks_of_their_median() -> None:
    taken = np.array([[1.0, 2.0], [2.0, 2.0], [3.0, 12.0]])
    share = share_of_time("work", taken, at_most=0.5)
    assert share.values == [0.5, 1.0, 0.25]
    assert (share.median, share.held) == (0.5, True)
    speed = times_as_fast("work", taken, at_least=3.0)
    assert (speed.median, speed.held) == (2.0, False)
    assert share.beside == {"our s": 2.0, "their s": 2.0}
    assert as_line(speed) == ("work: 2 (1.5 to 3, 3 repeats) times the speed; at least 3: MISSED  [2 our s, 2 their s]")
    assert Measured("free", [1.0], "s", "at most", None, {}).held is None


def test_calls_are_made_in_turn_and_the_first_are_not_counted() -> None:
    order: list[str] = []
    taken = in_turn(lambda: order.append("ours"), lambda: order.append("theirs"), repeats=2, warm_up=1)
    assert order == ["ours", "theirs"] * 3
    assert taken.shape == (2, 2)
    assert (taken >= 0).all()


def test_a_report_is_read_back_by_the_suite(tmp_path: Path) -> None:
    found = share_of_time("work", np.array([[1.0, 2.0]]), 0.4)
    options = option_parser("Time work.", cells=8, models="cnn").parse_args(["--json", str(tmp_path / "found.json")])
    assert (options.cells, options.models) == (8, "cnn")
    report([found], options.json)
    [back] = [Measured(**row) for row in json.loads(options.json.read_text())]
    assert back == found
    [row] = suite.as_rows([back])
    assert (row["median"], row["held"], row["mark"]) == (0.5, False, 0.4)


def test_a_run_takes_from_the_end_of_the_job_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"a": Seconds(train=5.0, evaluate=1.0), "b": Seconds(train=1.0, evaluate=0.5), "c": Seconds(train=2.0)}
    monkeypatch.setattr(run_overhead, "finished_runs", lambda runs_dir: [runs_dir / name for name in seconds])
    stored = {"open": lambda run: SimpleNamespace(record=SimpleNamespace(seconds=seconds[run.name]))}
    monkeypatch.setattr(run_overhead, "StoredRun", SimpleNamespace(**stored))
    folder = tmp_path / ".hydra" / "2026"
    folder.mkdir(parents=True)
    for number, (name, ended) in enumerate({"c": 100.0, "a": 107.0, "b": 109.0}.items()):
        file = folder / f"{number:04d}.json"
        file.write_text(json.dumps({"run": name}))
        os.utime(file, (ended, ended))
    assert run_overhead.beyond_training(tmp_path) == ([1.0, 0.5], [7.0, 2.0])


@pytest.mark.parametrize("name", suite.NAMES)
def test_each_benchmark_can_be_started(name: str) -> None:
    assert callable(importlib.import_module(name).main)


def test_the_suite_has_all_that_report_numbers() -> None:
    reporting = {
        file.stem
        for file in (ROOT / "benchmarks").glob("*.py")
        if "import" in (text := file.read_text()) and " report(" in text
    }
    assert reporting - {"measured"} == set(suite.NAMES)


def test_a_store_of_holes_is_opened_split_and_read(tmp_path: Path) -> None:
    scaling.write_sparse(tmp_path / "store", 4000)
    steps = scaling.large_steps(tmp_path / "store", 4000)
    assert set(steps) == {"open", "split", "first batch", "MiB"}
    assert all(value > 0 for value in steps.values())
