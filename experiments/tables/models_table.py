"""Which model, adapted how, is best at which number of annotations? Means over seeds with their intervals.

    python experiments/models_table.py runs          # writes tables/models-DATA.csv, .md and .tex

Reads a runs directory or packed runs: intervals are 95 %, over specimens and seeds. `seconds` is the mean of the fit
alone, without the one pass over the cells that probes share. Below the table: between which limits a model from scratch
overtakes a pretrained one in the mean.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from cellpatch.analysis.groups import SeedGroup
from cellpatch.cli.figures import main_of_table
from cellpatch.figures.captions import file_name, sample_size_caption
from cellpatch.figures.tables import write_table
from cellpatch.metrics.scores import macro_f1
from cellpatch.optics.conditions import CLEAN

BY = ["model", "adapt", "input_px", "optics", "flag_limit"]


def summarise(groups: Sequence[SeedGroup]) -> pd.DataFrame:
    """One row per model, adapt, input side, optics and limit: n of seeds, mean macro-F1 and its interval, seconds.

    What varies stands apart too: `sd_specimens`, of the mean over draws of specimens, and `sd_seeds`, of one seed.
    """
    rows = []
    for group in groups:
        clean = [next(row for row in run.record["metrics"] if row["kind"] == "none") for run in group.runs]
        estimate = group.estimate(CLEAN, macro_f1)
        low, high = estimate.interval()
        row = {key: group.place[key] for key in BY} | {"n_train": group.n_train, "seeds": len(group.seeds)}
        row |= {"macro_f1": estimate.mean, "low": low, "high": high}
        row |= {"sd_specimens": estimate.draws.mean(axis=1).std(ddof=1)}
        row |= {"sd_seeds": estimate.values.std(ddof=1) if len(estimate.values) > 1 else np.nan}
        row |= {"balanced_accuracy": np.mean([each["balanced_accuracy"] for each in clean])}
        rows.append(row | {"seconds": np.mean([run.record["seconds"]["train"] for run in group.runs])})
    by = ["flag_limit", "macro_f1"]
    return pd.DataFrame(rows).sort_values(by, ascending=[True, False], ignore_index=True)


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


def write(data: str, groups: Sequence[SeedGroup], folder: Path = Path("tables")) -> list[Path]:
    """Print and write the table; gives the files."""
    summary, notes = summarise(groups), [sample_size_caption(groups)]
    if 0 < (summary["adapt"] == "scratch").sum() < len(summary):
        notes += crossings(summary) or ["no model from scratch crosses a pretrained one between these limits"]
    return write_table(folder / file_name("models", data), summary, shown(summary), notes)


if __name__ == "__main__":
    main_of_table(write)
