"""What is waiting, running, cut off, failed and done in a runs directory: python -m cellpatch.runs RUNS_DIR --watch."""

import re
import time
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from cellpatch.runs.locks import run_lock_path
from cellpatch.runs.record import read_record
from cellpatch.runs.table import check_folder
from cellpatch.runtime.atomic_io import is_locked
from cellpatch.sweeps.jobs import pending_jobs


def states(runs_dir: Path) -> pd.DataFrame:
    """Every run: `state` (running, cut off, failed, waiting, done), `minutes` since the last change, macro-F1.

    Waiting are the jobs not begun yet of grids that somebody is at, by their overrides: some may turn out to be done.
    Raises ValueError if the folder is absent.
    """
    check_folder(runs_dir)
    rows = []
    for left in runs_dir.glob(".*.tmp"):
        name = re.sub(r"\.\d+\.tmp$", "", left.name[1:])
        state = "running" if is_locked(run_lock_path(runs_dir, name.rpartition("-")[2])) else "cut off"
        rows.append((name, state, _minutes_since(left), None))
    rows += [(file.stem, "failed", _minutes_since(file), None) for file in (runs_dir / ".failed").glob("[!.]*.log")]
    rows += [(job, "waiting", 0.0, None) for job in pending_jobs(runs_dir)]
    for file in runs_dir.glob("[!.]*/record.json"):
        score = read_record(file.parent)["metrics"][0]["macro_f1"]
        rows.append((file.parent.name, "done", _minutes_since(file), score))
    table = pd.DataFrame(rows, columns=["run", "state", "minutes", "macro_f1"])
    table["state"] = pd.Categorical(table["state"], ["running", "cut off", "failed", "waiting", "done"])
    return table.dropna(subset="minutes").sort_values(["state", "minutes"], ignore_index=True)


def _minutes_since(place: Path) -> float | None:
    """None if it went away meanwhile: a run was finished, or a failure tried again."""
    try:
        return (time.time() - place.stat().st_mtime) / 60
    except FileNotFoundError:
        return None


def as_table(shown: pd.DataFrame, most: int) -> Table:
    """The states for a terminal: how many of each, and the `most` first."""
    counts = shown["state"].value_counts(sort=False)
    table = Table(title=", ".join(f"{n} {state}" for state, n in counts.items()))
    for column, side in (("run", "left"), ("state", "left"), ("minutes ago", "right"), ("macro-F1", "right")):
        table.add_column(column, justify=side)  # type: ignore[arg-type]
    for row in shown.head(most).to_dict("records"):
        score = "" if pd.isna(row["macro_f1"]) else f"{row['macro_f1']:.3f}"
        minutes = "" if row["state"] == "waiting" else f"{row['minutes']:.0f}"
        table.add_row(escape(row["run"]), row["state"], minutes, score)
    return table


def watch(runs_dir: Path, console: Console) -> None:
    """Show the states until interrupted; where there is no terminal, once."""
    if not console.is_terminal:
        shown = states(runs_dir)
        console.print(as_table(shown, len(shown)))
        return
    with Live(console=console, refresh_per_second=1) as live:
        while True:
            live.update(as_table(states(runs_dir), max(5, console.height - 6)))
            time.sleep(2)
