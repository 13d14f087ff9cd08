"""Tables from stored runs."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from scipy import stats

from cellpatch import runs
from cellpatch.config import compose_config
from cellpatch.record import update_record

sys.path.insert(0, str(ROOT / "experiments"))
import latency_table
import models_table
import recipes
from test_figures import _record


def _grid(scores: dict[tuple[str, str, int], list[float]]) -> pd.DataFrame:
    rows = [
        {"model": model, "adapt": adapt, "input_px": 40, "flag_limit": limit, "seed": seed, "macro_f1": score}
        | {"n_train": 10, "balanced_accuracy": score, "seconds": 2.0, "run": f"{model}{adapt}{limit}{seed}"}
        for (model, adapt, limit), values in scores.items()
        for seed, score in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_interval_is_students() -> None:
    scores = [0.5, 0.6, 0.64]
    summary = models_table.summarise(_grid({("cnn", "scratch", 8): scores}))
    low, high = stats.t.interval(0.95, 2, np.mean(scores), stats.sem(scores))
    assert summary.loc[0, "low"] == pytest.approx(low)
    assert summary.loc[0, "high"] == pytest.approx(high)
    assert summary.loc[0, "seeds"] == 3


def test_one_seed_has_no_interval() -> None:
    summary = models_table.summarise(_grid({("cnn", "scratch", 8): [0.5]}))
    assert np.isnan(summary.loc[0, "low"])
    assert "| 0.500 | - | 2.0 |" in models_table.as_markdown(summary)


def test_crossings_are_of_scratch_against_pretrained() -> None:
    scores = {
        ("cnn", "scratch", 8): [0.4],
        ("cnn", "scratch", 16): [0.6],
        ("nin", "scratch", 8): [0.3],
        ("nin", "scratch", 16): [0.31],
        ("vit", "knn", 8): [0.5],
        ("vit", "knn", 16): [0.55],
    }
    summary = models_table.summarise(_grid(scores))
    assert models_table.crossings(summary) == ["cnn overtakes vit, knn (40 px) between 8 and 16"]


def test_files_are_written_a_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _record(tmp_path / "runs", "a")
    files = models_table.write(tmp_path / "runs", tmp_path / "tables")
    assert [file.name for file in files] == ["models-cells.csv", "models-cells.md"]
    assert "| 8 | cnn | scratch | 40 | 15 | 1 | 0.400 | - | 2.0 |" in files[1].read_text()
    assert "crosses" not in capsys.readouterr().out, "there is nothing to cross"
    runs.main([str(tmp_path / "runs"), "--csv", str(tmp_path / "grid.csv")])
    again = models_table.write(tmp_path / "grid.csv", tmp_path / "again")
    assert [file.read_text() for file in again] == [file.read_text() for file in files]
    with pytest.raises(ValueError, match="must be a folder of runs or a table of"):
        models_table.write(again[0])
    with pytest.raises(ValueError, match="holds no finished run"):
        (tmp_path / "none").mkdir()
        models_table.write(tmp_path / "none")


def test_the_kept_runs_are_of_models_that_are_there(tmp_path: Path) -> None:
    files = models_table.write(ROOT / "experiments" / "endonuke.csv", tmp_path)
    assert [file.name for file in files] == ["models-endonuke.csv", "models-endonuke.md"]
    assert set(pd.read_csv(files[0])["model"]) <= set(recipes.scratch_models())


def test_no_model_gets_more_search_than_another() -> None:
    lines = recipes.LINES.read()
    assert set(lines["model"]) <= set(recipes.scratch_models())
    assert len(recipes.scratch_models()) == 8
    per_model = lines.groupby(["data", "flag_limit", "epochs", "model"])["candidate"].apply(sorted)
    whole = [candidates for candidates in per_model if len(candidates) == len(recipes.CANDIDATES)]
    assert len(whole) == len(per_model), "a search is half done"


def test_models_hold_the_chosen_recipe() -> None:
    chosen = recipes.choose(recipes.LINES.read()).idxmax(axis=1)
    assert set(chosen.index) == set(recipes.scratch_models())
    for model, candidate in chosen.items():
        searched = compose_config(recipes.overrides_of(model, candidate))
        assert compose_config([f"model={model}"]).model == searched.model, model


def test_the_choice_is_the_best_mean_over_the_data_sets() -> None:
    rows = [
        {"data": data, "flag_limit": 8, "epochs": 2, "model": "cnn", "candidate": candidate, "val_macro_f1": score}
        | {"config": config}
        for data, scores, config in (
            ("a", [0.5, 0.6, 0.1], "x"),
            ("a", [0.9, 0.1, 0.1], None),
            ("b", [0.5, 0.45, 0.9], "y"),
            ("half", [0.1, 0.9], "z"),
        )
        for candidate, score in enumerate(scores)
    ]
    means = recipes.choose(pd.DataFrame(rows))
    assert means.loc["cnn"].tolist() == pytest.approx([0.5, 0.525, 0.5])
    assert means.idxmax(axis=1)["cnn"] == 1


def test_accuracy_and_cost_join_by_run(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for i, name in enumerate("abc"):
        _record(runs, name, seed=i)
    with pytest.raises(ValueError, match="holds no run with a card: python -m cellpatch.latency"):
        latency_table.summarise(runs)
    rows = [{"batch": 1, "ms": 2.0}, {"batch": 16, "ms": 0.5}, {"batch": 64, "ms": 0.6}]
    card = {"hardware": {"cores": 2}, "device": "cpu", "parameters": 9, "mmac": 1.2, "peak_mib": 3.4}
    update_record(runs / "a", latency=card | {"engines": {"eager": rows}})
    update_record(runs / "b", latency=card | {"engines": {"eager": rows}})
    table = latency_table.summarise(runs)
    assert list(table["seed"]) == [0, 1]
    assert table.loc[0, ["macro_f1", "eager_1_ms", "eager_best_ms", "eager_best_batch"]].tolist() == [0.4, 2.0, 0.5, 16]
    assert "| 2.000 | 0.500 | 16 |" in latency_table.as_markdown(table)
    update_record(runs / "c", latency=card | {"device": "cuda", "engines": {"eager": rows}})
    with pytest.raises(ValueError, match="are of different machines or threads"):
        latency_table.summarise(runs)
