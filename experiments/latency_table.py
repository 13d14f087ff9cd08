"""What does accuracy cost? Macro-F1 beside milliseconds per cell, of the runs that have a card of latency.

    python -m cellpatch.latency runs/*               # writes a card into each record; let nothing run beside it
    python experiments/latency_table.py runs         # writes tables/latency-DATA.csv and .md

Reads a runs directory alone. Milliseconds are medians per cell, at batch 1 and at the batch that is fastest per cell.
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from cellpatch.command import from_runs, write_table
from cellpatch.latency import best
from cellpatch.record import read_record
from cellpatch.runs import clean_table


def summarise(runs_dir: Path) -> pd.DataFrame:
    """One row a run that has a card: what it is, clean macro-F1, cost, and milliseconds of each engine.

    Raises ValueError if none has one, or if the cards are of different hardware or threads.
    """
    lines: list[dict[str, Any]] = []
    machines = set()
    for row in clean_table(runs_dir).to_dict("records"):
        card = read_record(runs_dir / row["run"]).get("latency")
        if card is None:
            continue
        machines.add(json.dumps([card["hardware"], card["device"]], sort_keys=True))
        line = {key: row[key] for key in ("data", "model", "adapt", "input_px", "flag_limit", "seed", "macro_f1")}
        line |= {"parameters": card["parameters"], "mmac": round(card["mmac"]), "peak_mib": round(card["peak_mib"])}
        for engine, rows in card["engines"].items():
            fastest = best(rows)
            line |= {f"{engine}_1_ms": rows[0]["ms"], f"{engine}_best_ms": fastest["ms"]}
            line |= {f"{engine}_best_batch": fastest["batch"]}
        lines.append(line)
    if not lines:
        raise ValueError(f"{runs_dir} holds no run with a card: python -m cellpatch.latency {runs_dir}/*")
    if len(machines) > 1:
        raise ValueError(f"the cards of {runs_dir} are of different machines or threads: {sorted(machines)}")
    return pd.DataFrame(lines)


def as_markdown(table: pd.DataFrame) -> str:
    """The table for people; numbers below a thousandth of a millisecond are not told."""
    shown = table.drop(columns="data")
    lines = [f"| {' | '.join(shown.columns)} |", "|" + "---|" * len(shown.columns)]
    for row in shown.to_dict("records"):
        lines.append(f"| {' | '.join(f'{v:.3f}' if isinstance(v, float) else str(v) for v in row.values())} |")
    return "\n".join(lines)


def write(runs_dir: Path, folder: Path = Path("tables")) -> list[Path]:
    """Print and write the table of each data set; gives the files."""
    files = []
    for data, of_data in summarise(runs_dir).groupby("data"):
        files += write_table(folder / f"latency-{data}", of_data, as_markdown(of_data))
    return files


if __name__ == "__main__":
    from_runs(write)
