"""What is waiting, running, interrupted, failed and done in a runs directory."""

import re
import time
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from cellpatch.runs.folders import RECORD, finished_runs
from cellpatch.runs.locks import run_lock_path
from cellpatch.runs.readable import describe_problem
from cellpatch.runs.stored_run import StoredRun
from cellpatch.runtime.atomic_io import is_locked
from cellpatch.sweeps.jobs import pending_jobs

STATES = ["running", "interrupted", "failed", "unreadable", "waiting", "done"]

_SHOWN = ["run", "state", "minutes", "macro_f1"]


def run_states(runs_dir: Path) -> pd.DataFrame:
    """Every run: `state` (one of STATES), `minutes` since the last change, `macro_f1`, and `problem` if unreadable.

    Waiting are jobs that have not started yet, by their overrides: some may turn out to be done. Raises ValueError if
    the folder is absent, or cannot be read.
    """
    finished = finished_runs(runs_dir)
    rows: list[tuple[str, str, float | None, float | None]] = []
    for leftover in runs_dir.glob(".*.tmp"):
        name = re.sub(r"\.\d+\.tmp$", "", leftover.name[1:])
        state = "running" if is_locked(run_lock_path(runs_dir, name.rpartition("-")[2])) else "interrupted"
        rows.append((name, state, _minutes_since(leftover), None))
    rows += [(file.stem, "failed", _minutes_since(file), None) for file in (runs_dir / ".failed").glob("[!.]*.log")]
    rows += [(job, "waiting", 0.0, None) for job in pending_jobs(runs_dir)]
    problems: dict[str, str] = {}
    for folder in finished:
        try:
            score = StoredRun.open(folder).record.clean.macro_f1
        except ValueError as error:
            problems[folder.name] = describe_problem(folder.name, error)
            rows.append((folder.name, "unreadable", _minutes_since(folder), None))
            continue
        rows.append((folder.name, "done", _minutes_since(folder / RECORD), score))
    table = pd.DataFrame(rows, columns=["run", "state", "minutes", "macro_f1"])
    table["problem"] = table["run"].map(problems)
    table["state"] = pd.Categorical(table["state"], STATES)
    return table.dropna(subset="minutes").sort_values(["state", "minutes"], ignore_index=True)


def _minutes_since(path: Path) -> float | None:
    """None if it went away meanwhile: a run was finished, or a failure retried."""
    try:
        return (time.time() - path.stat().st_mtime) / 60
    except FileNotFoundError:
        return None


def states_table(states: pd.DataFrame, rows: int) -> Table:
    """The states for a terminal: how many of each, and the first `rows`."""
    counts = states["state"].value_counts(sort=False)
    table = Table(title=", ".join(f"{n} {state}" for state, n in counts.items()))
    for column, side in (("run", "left"), ("state", "left"), ("minutes ago", "right"), ("macro-F1", "right")):
        table.add_column(column, justify=side)  # type: ignore[arg-type]
    for run, state, minutes, score in states.head(rows)[_SHOWN].itertuples(index=False, name=None):
        shown = "" if state == "waiting" else f"{minutes:.0f}"
        table.add_row(escape(run), state, shown, "" if pd.isna(score) else f"{score:.3f}")
    return table


def watch(runs_dir: Path, console: Console) -> list[str]:
    """Show the states until interrupted; where there is no terminal, once: then a line for each unreadable run."""
    if not console.is_terminal:
        states = run_states(runs_dir)
        console.print(states_table(states, len(states)))
        return states["problem"].dropna().tolist()
    with Live(console=console, refresh_per_second=1) as live:
        while True:
            live.update(states_table(run_states(runs_dir), max(5, console.height - 6)))
            time.sleep(2)
