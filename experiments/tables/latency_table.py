"""What does accuracy cost? Macro-F1 beside milliseconds per cell, of the runs that have a card of latency.

    python -m cellpatch.latency runs/*               # writes a card into each record; let nothing run beside it
    python experiments/latency_table.py runs         # writes tables/latency-DATA.csv, .md and .tex

Reads a runs directory, or packed runs, alone. Milliseconds are medians per cell with quartiles, at batch 1 and at the
batch that is fastest per cell; `peak_mib` is what the process grew by at batch 1. `onnx_apart` is the largest
difference between ONNX Runtime's probabilities and torch's.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cellpatch.analysis.groups import SeedGroup
from cellpatch.analysis.latency_cards import NO_LATENCY_CARDS, require_one_machine
from cellpatch.analysis.results import RunResult
from cellpatch.cli.figures import main_of_table
from cellpatch.figures.captions import file_name, sample_size_caption
from cellpatch.figures.tables import write_table
from cellpatch.metrics.scores import class_counts, macro_f1
from cellpatch.optics.conditions import CLEAN
from cellpatch.runs.coordinates import GRID_KEYS

NOTE = "Macro-F1 is of the run that was timed alone, without an interval; milliseconds are medians and quartiles."


def summarise(results: Sequence[RunResult]) -> pd.DataFrame:
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
        line = {key: result.about[key] for key in GRID_KEYS}
        line |= {"macro_f1": float(macro_f1(class_counts(result.confusions[CLEAN].sum(axis=0))))}
        line |= {"parameters": card["parameters"], "mmac": round(card["mmac"])}
        line |= {"threads": card["hardware"]["threads"]}
        for engine, rows in card["engines"].items():
            fastest = min(rows, key=lambda row: row["ms"])
            for name, row in (("1", rows[0]), ("best", fastest)):
                line |= {f"{engine}_{name}_{what}": row[what] for what in ("ms", "low", "high")}
            line |= {f"{engine}_best_batch": fastest["batch"]}
            line |= {"peak_mib": round(rows[0]["peak_mib"])} if engine == "eager" else {}
        line |= {"onnx_apart": card["onnx_apart"]} if "onnx_apart" in card else {}
        lines.append(line)
    if not lines:
        raise ValueError(NO_LATENCY_CARDS)
    require_one_machine(cards)
    return pd.DataFrame(lines)


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table for people: milliseconds with their quartiles in one column an engine and batch."""
    words = table[["model", "adapt", "input_px", "flag_limit", "parameters", "mmac", "threads"]].astype(str)
    words["macro-F1"] = table["macro_f1"].map("{:.3f}".format)
    for name in [column.removesuffix("_ms") for column in map(str, table) if column.endswith("_ms")]:
        engine, _, batch = name.rpartition("_")
        rows = table[[f"{name}_{what}" for what in ("ms", "low", "high")]].itertuples(index=False, name=None)
        told = ["-" if ms != ms else f"{ms:.3g} ({low:.3g} to {high:.3g})" for ms, low, high in rows]
        batches = table.get(f"{engine}_best_batch")
        if batch == "best" and batches is not None:
            told = [text if n != n else f"{text} at {n:.0f}" for text, n in zip(told, batches, strict=True)]
        words[f"{engine}, {'batch 1' if batch == '1' else 'best batch'}, ms"] = told
    if "onnx_apart" in table:
        words["onnx to torch"] = table["onnx_apart"].map("{:.1e}".format)
    return words


def write(data: str, groups: Sequence[SeedGroup], folder: Path = Path("tables")) -> list[Path]:
    """Print and write the table; gives the files."""
    table = summarise([run for group in groups for run in group.runs])
    return write_table(
        folder / file_name("latency", data), table, shown(table), [f"{NOTE} {sample_size_caption(groups)}"]
    )


if __name__ == "__main__":
    main_of_table(write)
