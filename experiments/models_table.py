"""Which model, adapted how, is best at which number of annotations? Means over seeds with their intervals.

    python experiments/models_table.py runs          # writes tables/models-DATA.csv and .md

Reads a runs directory, or what `python -m cellpatch.runs RUNS --csv FILE` wrote, alone. The interval is Student's t
over seeds, 95 %: it says how much the drawing of annotations, weights and order matters, on these test cells; nothing
about other specimens. `seconds` is the mean of the fit alone, without the one pass over the cells that probes share.
Below the table: between which limits a model from scratch overtakes a pretrained one in the mean.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from cellpatch.command import from_runs, write_table
from cellpatch.runs import clean_table

BY = ["model", "adapt", "input_px", "flag_limit"]


def summarise(grid: pd.DataFrame) -> pd.DataFrame:
    """One row per model, adapt, input side and limit: n of seeds, mean macro-F1 and its interval, seconds."""
    rows = []
    for key, runs in grid.groupby(BY):
        scores = runs["macro_f1"].to_numpy()
        half = half_width(scores)
        rows.append(
            dict(zip(BY, key, strict=True))
            | {
                "n_train": round(runs["n_train"].mean()),
                "seeds": len(runs),
                "macro_f1": scores.mean(),
                "low": scores.mean() - half,
                "high": scores.mean() + half,
                "balanced_accuracy": runs["balanced_accuracy"].mean(),
                "seconds": runs["seconds"].mean(),
            }
        )
    return pd.DataFrame(rows).sort_values(["flag_limit", "macro_f1"], ascending=[True, False], ignore_index=True)


def half_width(scores: np.ndarray) -> float:
    """Half of Student's 95 % interval of the mean; NaN for a single score."""
    if len(scores) < 2:
        return float("nan")
    return float(stats.t.ppf(0.975, len(scores) - 1) * scores.std(ddof=1) / np.sqrt(len(scores)))


def crossings(summary: pd.DataFrame) -> list[str]:
    """Where the mean of a model from scratch rises above that of a pretrained one, or falls below."""
    means = summary.pivot_table(index=["model", "adapt", "input_px"], columns="flag_limit", values="macro_f1")
    told = []
    for small in [key for key in means.index if key[1] == "scratch"]:
        for large in [key for key in means.index if key[1] != "scratch"]:
            ahead = (means.loc[small] - means.loc[large]).dropna()
            for (low, before), (high, after) in pairwise(ahead.items()):
                if before * after < 0:
                    verb = "overtakes" if after > 0 else "falls behind"
                    told.append(f"{small[0]} {verb} {large[0]}, {large[1]} ({large[2]} px) between {low} and {high}")
    return told


def as_markdown(summary: pd.DataFrame) -> str:
    lines = [
        "| limit | model | adapt | input | cells | seeds | macro-F1 | 95 % over seeds | seconds |",
        "|" + "---|" * 9,
    ]
    for row in summary.to_dict("records"):
        interval = "-" if row["seeds"] < 2 else f"{row['low']:.3f} to {row['high']:.3f}"
        cells = [row[key] for key in ("flag_limit", "model", "adapt", "input_px", "n_train", "seeds")]
        cells += [f"{row['macro_f1']:.3f}", interval, f"{row['seconds']:.1f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def write(runs_dir: Path, folder: Path = Path("tables")) -> list[Path]:
    """Print and write the table of each data set; gives the files."""
    grid = clean_table(runs_dir)
    files = []
    for data, of_data in grid.groupby("data"):
        summary = summarise(of_data)
        text = as_markdown(summary)
        if 0 < (summary["adapt"] == "scratch").sum() < len(summary):
            crossed = crossings(summary) or ["no model from scratch crosses a pretrained one between these limits"]
            text += "\n\n" + "\n".join(f"* {line}" for line in crossed)
        files += write_table(folder / f"models-{data}", summary, text)
    return files


if __name__ == "__main__":
    from_runs(write)
