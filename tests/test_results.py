"""Runs as figures read them, from their folder and from a packed file."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, config_of, start_python
from simulated import on_cohort, simulated
from stored import read_record

from cellpatch.analysis import packed_results
from cellpatch.analysis.compact import SparseConfusions, compress
from cellpatch.analysis.packed_results import pack
from cellpatch.analysis.results import read_results
from cellpatch.analysis.run_result import RunResult
from cellpatch.metrics import scores
from cellpatch.optics.conditions import CLEAN, Condition
from cellpatch.runs.record import parse_record
from cellpatch.sweeps.train import train


def _result(run: str, root: str = "/home/someone/cells") -> RunResult:
    rng = np.random.default_rng(len(run))
    loading = {"store_dir": "/home/someone/stores"}
    config = {"data": {"name": "d", "root": root, "split": {"test": 0.2}, "files": [root, "points.csv"]}, "seed": 1}
    config["data"] |= {"loading": loading}
    config |= {"model": {"name": "cnn", "backbone": {"input_px": 40}}, "adapt": {"name": "scratch"}, "flag_limit": 8}
    config |= {"optics": {"via_px": None, "resize": "area", "train": [0.4, 1.6], "unit": "um", "train_kind": ["pre"]}}
    stored = {"run": run, "identity": "i", "cellpatch": "0", "weights": None, "temperature": 1.0, "metrics": []}
    stored |= {"config": config, "classes": ["a", "b", "c"], "seconds": {"train": 1.0}}
    stored |= {"data": {"fingerprint": "f", "source": {"synthetic": False}}, "counts": {"train": {"a": 8, "b": 7}}}
    counts = {condition: rng.integers(0, 3, (4, 3, 3)) for condition in (CLEAN, Condition("pre", 1.6))}
    stored["metrics"] = [_row(condition, confusions.sum(axis=0)) for condition, confusions in counts.items()]
    return RunResult(run, parse_record(stored, run), ("s1", "s2", "s3", "s4"), counts, compress(stored))


def _row(condition: Condition, confusion: np.ndarray) -> dict[str, Any]:
    """A row of a record's metrics: what no test reads is a constant."""
    numbers = ("accuracy", "balanced_accuracy", "macro_f1", "mcc", "auroc", "ece", "nll", "brier", "ece_scaled")
    row: dict[str, Any] = asdict(condition) | {"n_test": int(confusion.sum()), "confusion": confusion.tolist()}
    row |= dict.fromkeys((*numbers, "nll_scaled", "brier_scaled", "accuracy_at_0.8", "accuracy_at_0.9"), 0.5)
    one = {"n_test": 1, "precision": 0.5, "recall": 0.5, "f1": 0.5}
    return row | {"per_class": dict.fromkeys("abc", one)}


def test_packed_and_read_again(tmp_path: Path) -> None:
    file = tmp_path / "results.parquet"
    results = [_result("one"), _result("other one")]
    pack(results, file)
    for before, after in zip(results, read_results(file), strict=True):
        assert (after.run, after.specimens, after.coordinates, after.n_train, after.test_set_key) == (
            before.run,
            before.specimens,
            before.coordinates,
            before.n_train,
            before.test_set_key,
        )
        assert list(after.confusions) == list(before.confusions)
        for condition, counts in before.confusions.items():
            np.testing.assert_array_equal(after.confusions[condition], counts)
    assert asdict(results[0].coordinates) | {"n_train": results[0].n_train} == {
        "data": "d", "field_um": 0.0, "model": "cnn", "adapt": "scratch", "input_px": 40, "flag_limit": 8, "seed": 1, "n_train": 15,
        "optics": "straight, area, trained on pre 0.4 to 1.6 um",
    }  # fmt: skip


@pytest.mark.parametrize("most", [1, 300, 70_000])
def test_confusions_are_kept_without_their_zeros(most: int) -> None:
    dense = {CLEAN: np.zeros((3, 2, 2), int), Condition("post", 1.6): np.array([[[0, most], [1, 0]]])}
    kept = SparseConfusions(dense)
    assert list(kept) == list(dense)
    assert len(kept) == 2
    for condition, counts in dense.items():
        np.testing.assert_array_equal(kept[condition], counts)
        assert kept[condition].dtype == np.int32


def test_runs_are_packed_in_groups_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is in memory at once, the same runs are written and read, external cohorts and turned cells included."""
    results = [*(_result("a" * n) for n in range(1, 4)), *on_cohort(simulated(limits=(256,), seeds=(0,)))]
    pack(results, tmp_path / "one.parquet")
    monkeypatch.setattr(packed_results, "_ROW_GROUP", 2)
    pack(results, tmp_path / "several.parquet")
    assert pq.ParquetFile(tmp_path / "several.parquet").num_row_groups == -(-len(results) // 2)
    assert pq.read_table(tmp_path / "several.parquet").equals(pq.read_table(tmp_path / "one.parquet"))
    for before, after in zip(results, read_results(tmp_path / "several.parquet"), strict=True):
        assert after.run == before.run
        np.testing.assert_array_equal(after.confusions[CLEAN], before.confusions[CLEAN])
        assert list(after.cohorts) == list(before.cohorts)
        for name, cohort in before.cohorts.items():
            np.testing.assert_array_equal(after.cohorts[name].confusions[CLEAN], cohort.confusions[CLEAN])


def test_folders_of_a_machine_stay_there(tmp_path: Path) -> None:
    pack([_result("one")], tmp_path / "results.parquet")
    [result] = read_results(tmp_path / "results.parquet")
    for config in (result.stored["config"], result.record.settings.config):
        assert config["data"]["root"] == "cells"
        assert config["data"]["files"] == ["cells", "points.csv"]
    assert result.record.settings.data.loading.store_dir == "stores"


def test_packed_twice_is_packed_once(tmp_path: Path) -> None:
    """A file of another version comes out as it is: its records are written again, not translated."""
    kept = ROOT / "experiments" / "results" / "synthetic.parquet"
    pack(read_results(kept), tmp_path / "again.parquet")
    assert pq.read_table(tmp_path / "again.parquet").equals(pq.read_table(kept))


def test_other_files_and_altered_records_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "results.parquet"
    with pytest.raises(ValueError, match=r"results.parquet must be a folder of runs or a file of"):
        read_results(file)
    file.write_text("no parquet")
    with pytest.raises(ValueError, match=r"results.parquet must be a folder of runs or a file of"):
        read_results(file)
    pq.write_table(pa.table({"a": [1]}), file)
    with pytest.raises(ValueError, match=r"results.parquet must be a folder of runs or a file of"):
        read_results(file)
    pack([], file)
    with pytest.raises(ValueError, match="has no finished run"):
        read_results(file)
    pack([_result("one")], file)
    table = pq.read_table(file)
    record = json.loads(table["record"][0].as_py()) | {"classes": ["x", "y", "z"]}
    pq.write_table(table.set_column(1, "record", pa.array([json.dumps(record)])), file)
    with pytest.raises(ValueError, match="the record of one is not as it was written"):
        read_results(file)


@pytest.mark.long
def test_counts_of_real_runs_give_their_scores(tmp_path: Path, folder_of_squares: Callable[..., Path]) -> None:
    small = ["model=cnn", "model.backbone.input_px=16", "model.backbone.widths=[4]", "optics.via_px=16"]
    blur = ["optics.kind=post", "optics.sigma=1.6"]
    train(config_of(tmp_path, folder_of_squares(20, 5), *small, *blur, "trainer.max_epochs=1"))
    file = tmp_path / "packed.parquet"
    command = start_python("-m", "cellpatch.results", str(tmp_path / "runs"), str(file))
    assert command.communicate()[0].startswith("1 runs in ")
    [result] = read_results(file)
    [record] = [read_record(each.parent) for each in (tmp_path / "runs").glob("*/record.json")]
    assert {row["kind"] for row in record["metrics"]} == {"none", "post"}
    for row in record["metrics"]:
        whole = result.confusions[Condition(row["kind"], row["sigma"])].sum(axis=0)
        assert whole.tolist() == row["confusion"]
        assert scores.macro_f1(scores.class_counts(whole)) == pytest.approx(row["macro_f1"])
        assert scores.accuracy(scores.class_counts(whole)) == pytest.approx(row["accuracy"])
    for runs in (tmp_path / "runs", file):  # the table of runs is the same from both
        shown = start_python("-m", "cellpatch.runs", str(runs), "--csv", str(tmp_path / f"{runs.name}.csv"))
        assert "1 runs in " in shown.communicate()[0]
    assert (tmp_path / "runs.csv").read_text() == (tmp_path / "packed.parquet.csv").read_text()
    command = start_python("-m", "cellpatch.results", str(tmp_path / "none"), str(tmp_path / "x.parquet"))
    assert command.communicate()[1].startswith("error: ")
    assert command.returncode == 1
