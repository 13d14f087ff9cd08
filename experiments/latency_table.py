"""What does accuracy cost? Macro-F1 beside milliseconds per cell, of the runs that have a card of latency.

    python -m cellpatch.latency runs/*               # writes a card into each record; let nothing run beside it
    python experiments/latency_table.py runs         # writes tables/latency-DATA.csv, .md and .tex

Reads a runs directory, or packed runs, alone. Milliseconds are medians per cell, at batch 1 and at the batch that is
fastest per cell.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cellpatch.conditions import CLEAN
from cellpatch.groups import Group
from cellpatch.results import Result
from cellpatch.runs import AXES
from cellpatch.stats import macro_f1
from cellpatch.typeset import write_from, write_table

NEEDED = "no run has a card of latency: python -m cellpatch.latency RUNS/* writes them"


def summarise(results: Sequence[Result]) -> pd.DataFrame:
    """One row a run that has a card: what it is, clean macro-F1, cost, and milliseconds of each engine.

    Raises ValueError if none has one, or if the cards are of different hardware or threads.
    """
    lines: list[dict[str, Any]] = []
    cards = []
    for result in results:
        card = result.record.get("latency")
        if card is None:
            continue
        cards.append(card)
        line = {key: result.about[key] for key in AXES}
        line |= {"macro_f1": float(macro_f1(result.confusions[CLEAN].sum(axis=0)))}
        line |= {"parameters": card["parameters"], "mmac": round(card["mmac"]), "peak_mib": round(card["peak_mib"])}
        for engine, rows in card["engines"].items():
            fastest = min(rows, key=lambda row: row["ms"])
            line |= {f"{engine}_1_ms": rows[0]["ms"], f"{engine}_best_ms": fastest["ms"]}
            line |= {f"{engine}_best_batch": fastest["batch"]}
        lines.append(line)
    if not lines:
        raise ValueError(NEEDED)
    need_one_machine(cards)
    return pd.DataFrame(lines)


def need_one_machine(cards: Iterable[Mapping[str, Any]]) -> None:
    """Raises ValueError if cards of latency are of different hardware or threads."""
    machines = {json.dumps([card["hardware"], card["device"]], sort_keys=True) for card in cards}
    if len(machines) > 1:
        raise ValueError(f"cards of latency are of different machines or threads: {sorted(machines)}")


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table for people; numbers below a thousandth of a millisecond are not told."""
    return table.drop(columns="data").map(lambda value: f"{value:.3f}" if isinstance(value, float) else str(value))


def write(data: str, groups: Sequence[Group], folder: Path = Path("tables")) -> list[Path]:
    """Print and write the table; gives the files."""
    table = summarise([run for group in groups for run in group.runs])
    return write_table(folder / f"latency-{data}", table, shown(table))


if __name__ == "__main__":
    write_from(write)
