"""Which model, adapted how, is best at which number of annotations? Means over seeds with their intervals.

    python experiments/models_table.py runs          # writes tables/models-DATA.csv, .md and .tex

Reads a runs directory or packed runs: intervals are 95 %, over specimens and seeds. Of what
`python -m cellpatch.runs RUNS --csv FILE` wrote, which knows nothing of specimens, they are Student's t over seeds: how
much the drawing of annotations, weights and order matters on these test cells. `seconds` is the mean of the fit alone,
without the one pass over the cells that probes share. Below the table: between which limits a model from scratch
overtakes a pretrained one in the mean.
"""

import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cellpatch.captions import file_name, told
from cellpatch.command import from_runs
from cellpatch.conditions import CLEAN
from cellpatch.groups import Group
from cellpatch.runs import clean_rows
from cellpatch.stats import half_over_seeds, macro_f1
from cellpatch.typeset import write_from, write_table

BY = ["model", "adapt", "input_px", "optics", "flag_limit"]


def summarise(groups: Sequence[Group]) -> pd.DataFrame:
    """One row per model, adapt, input side, optics and limit: n of seeds, mean macro-F1 and its interval, seconds."""
    rows = []
    for group in groups:
        clean = [next(row for row in run.record["metrics"] if row["kind"] == "none") for run in group.runs]
        estimate = group.estimate(CLEAN, macro_f1)
        low, high = estimate.interval()
        row = {key: group.place[key] for key in BY} | {"n_train": group.n_train, "seeds": len(group.seeds)}
        row |= {"macro_f1": estimate.mean, "low": low, "high": high}
        row |= {"balanced_accuracy": np.mean([each["balanced_accuracy"] for each in clean])}
        rows.append(row | {"seconds": np.mean([run.record["seconds"]["train"] for run in group.runs])})
    return _sorted(rows)


def summarise_csv(grid: pd.DataFrame) -> pd.DataFrame:
    """The same of a table of runs, with intervals over seeds alone; none for a single seed."""
    rows = []
    for key, runs in grid.groupby(BY):
        scores = runs["macro_f1"].to_numpy()
        low, high = np.clip(scores.mean() + half_over_seeds(scores) * np.array([-1, 1]), 0, 1)
        row = dict(zip(BY, key, strict=True)) | {"n_train": round(runs["n_train"].mean()), "seeds": len(runs)}
        row |= {"macro_f1": scores.mean(), "low": low, "high": high}
        rows.append(row | {name: runs[name].mean() for name in ("balanced_accuracy", "seconds")})
    return _sorted(rows)


def _sorted(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows).sort_values(["flag_limit", "macro_f1"], ascending=[True, False], ignore_index=True)


def crossings(summary: pd.DataFrame) -> list[str]:
    """Where the mean of a model from scratch rises above that of a pretrained one, or falls below."""
    several = summary["optics"].nunique() > 1
    means = summary.pivot_table(index=BY[:-1], columns="flag_limit", values="macro_f1")
    told = []
    for small in [key for key in means.index if key[1] == "scratch"]:
        for large in [key for key in means.index if key[1] != "scratch"]:
            ahead = (means.loc[small] - means.loc[large]).dropna()
            for (low, before), (high, after) in pairwise(ahead.items()):
                if before * after < 0:
                    verb = "overtakes" if after > 0 else "falls behind"
                    one = f"{small[0]} ({small[3]})" if several else small[0]
                    other = f"{large[2]} px, {large[3]}" if several else f"{large[2]} px"
                    told.append(f"{one} {verb} {large[0]}, {large[1]} ({other}) between {low} and {high}")
    return told


def shown(summary: pd.DataFrame) -> pd.DataFrame:
    """The table for people."""
    columns = {
        "limit": summary["flag_limit"],
        "model": summary["model"],
        "adapt": summary["adapt"],
        "input": summary["input_px"],
        "optics": summary["optics"],
        "cells": summary["n_train"],
        "seeds": summary["seeds"],
        "macro-F1": [f"{value:.3f}" for value in summary["macro_f1"]],
        "95 %": [
            "-" if np.isnan(low) else f"{low:.3f} to {high:.3f}"
            for low, high in summary[["low", "high"]].itertuples(index=False, name=None)
        ],
        "seconds": [f"{value:.1f}" for value in summary["seconds"]],
    }
    return pd.DataFrame(columns)


def write(data: str, groups: Sequence[Group], folder: Path = Path("tables")) -> list[Path]:
    """Print and write the table; gives the files."""
    return _write(data, summarise(groups), folder, [told(groups)])


def write_csv(file: Path, folder: Path = Path("tables")) -> list[Path]:
    """The same of a table of runs, for each data set in it."""
    notes = ["Intervals are over seeds alone."]
    by_data = clean_rows(file).groupby("data")
    return [path for data, rows in by_data for path in _write(str(data), summarise_csv(rows), folder, notes)]


def _write(data: str, summary: pd.DataFrame, folder: Path, notes: list[str]) -> list[Path]:
    if 0 < (summary["adapt"] == "scratch").sum() < len(summary):
        notes = notes + (crossings(summary) or ["no model from scratch crosses a pretrained one between these limits"])
    return write_table(folder / file_name("models", data), summary, shown(summary), notes)


if __name__ == "__main__":
    if sys.argv[-1].endswith(".csv"):
        from_runs(write_csv)
    else:
        write_from(write)
