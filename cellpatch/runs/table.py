"""All runs of a folder as one table."""

from pathlib import Path

import pandas as pd

from cellpatch.runs.coordinates import GRID_KEYS, grid_coordinates
from cellpatch.runs.record import read_record

COLUMNS = [
    "model",
    "adapt",
    "input_px",
    "optics",
    "data",
    "flag_limit",
    "seed",
    "kind",
    "sigma",
    "n_train",
    "accuracy",
    "macro_f1",
    "balanced_accuracy",
    "ece",
    "seconds",
    "run",
]


def table(runs_dir: Path) -> pd.DataFrame:
    """One row per run and optical condition; `seconds` are those of the fit alone.

    Raises ValueError if the folder is absent.
    """
    check_folder(runs_dir)
    rows = []
    for file in sorted(runs_dir.glob("[!.]*/record.json")):
        record = read_record(file.parent)
        row = grid_coordinates(record["config"]) | {"seconds": record["seconds"]["train"]}
        row |= {"n_train": sum(record["counts"]["train"].values()), "run": file.parent.name}
        rows += [row | metrics for metrics in record["metrics"]]
    grid = pd.DataFrame(rows, columns=COLUMNS)
    return grid.sort_values([*GRID_KEYS, "kind", "sigma"], ignore_index=True)


def check_folder(runs_dir: Path) -> None:
    """Raise ValueError if it is no folder."""
    if not runs_dir.is_dir():
        raise ValueError(f"runs_dir must be a folder, but got {runs_dir}")
