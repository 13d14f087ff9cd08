"""What does accuracy cost? Macro-F1 beside milliseconds per cell, of the runs that have a card of latency.

    cellpatch latency runs               # writes a card into each record; let nothing run beside it
    cellpatch tables runs latency_table         # writes tables/latency-DATA.csv, .md and .tex

Reads a runs directory, or packed runs, alone. Milliseconds are medians per cell with quartiles, at batch 1 and at the
batch that is fastest per cell; `peak_mib` is what the process grew by at batch 1. `onnx_apart` is the largest
difference between ONNX Runtime's probabilities and torch's.
"""

from collections.abc import Sequence

import pandas as pd

from cellpatch.analysis.groups import SeedGroup
from cellpatch.analysis.latency_cards import NO_LATENCY_CARDS, require_one_machine
from cellpatch.analysis.run_result import RunResult
from cellpatch.cli.figures import main_of_table
from cellpatch.figures.captions import sample_size_caption
from cellpatch.figures.tables import ShownTable
from cellpatch.metrics.scores import class_counts, macro_f1
from cellpatch.optics.conditions import CLEAN
from cellpatch.runs.cards import LatencyCard
from cellpatch.runs.coordinates import FIELD, GRID_KEYS
from cellpatch.runtime.numbers import rounded

NOTE = "Macro-F1 is of the run that was timed alone, without an interval; milliseconds are medians and quartiles."


def tables(groups: Sequence[SeedGroup]) -> list[ShownTable]:
    """The table; raises ValueError as `summarise`."""
    table = summarise([run for group in groups for run in group.runs])
    return [
        ShownTable(
            "latency", "Milliseconds a cell", shown(table), table, (f"{NOTE} {sample_size_caption(groups)}",), NOTE
        )
    ]


def summarise(results: Sequence[RunResult]) -> pd.DataFrame:
    """One row a run that has a card: its coordinates, clean macro-F1, cost, and milliseconds of each engine.

    Raises ValueError if none has one, or if the cards are of different hardware or threads.
    """
    timed = [(result, result.record.latency) for result in results if result.record.latency is not None]
    if not timed:
        raise ValueError(NO_LATENCY_CARDS)
    require_one_machine(card for _, card in timed)
    table = pd.DataFrame([_row(result, card) for result, card in timed])
    return table if table[FIELD].nunique() > 1 else table.drop(columns=FIELD)


def _row(result: RunResult, card: LatencyCard) -> dict[str, str | int | float]:
    row: dict[str, str | int | float] = {key: getattr(result.coordinates, key) for key in [*GRID_KEYS, FIELD]}
    row |= {"macro_f1": float(macro_f1(class_counts(result.confusions[CLEAN].sum(axis=0))))}
    row |= {"parameters": card.parameters, "mmac": round(card.mmac), "threads": card.hardware.threads}
    for engine, batches in card.engines.items():
        fastest = min(batches, key=lambda batch: batch.ms)
        for name, batch in (("1", batches[0]), ("best", fastest)):
            row |= {f"{engine}_{name}_ms": batch.ms, f"{engine}_{name}_low": batch.low}
            row |= {f"{engine}_{name}_high": batch.high}
        row |= {f"{engine}_best_batch": fastest.batch}
        row |= {"peak_mib": round(batches[0].peak_mib)} if engine == "eager" else {}
    return row | ({} if card.onnx_apart is None else {"onnx_apart": card.onnx_apart})


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table for people: milliseconds with their quartiles in one column an engine and batch."""
    field = [FIELD] if FIELD in table else []
    words = table[["model", "adapt", *field, "input_px", "flag_limit", "parameters", "mmac", "threads"]].astype(str)
    words["macro-F1"] = table["macro_f1"].map("{:.3f}".format)
    for name in [column.removesuffix("_ms") for column in map(str, table) if column.endswith("_ms")]:
        engine, _, batch = name.rpartition("_")
        rows = table[[f"{name}_{end}" for end in ("ms", "low", "high")]].itertuples(index=False, name=None)
        times = ["-" if ms != ms else f"{rounded(ms)} ({rounded(low)} to {rounded(high)})" for ms, low, high in rows]
        batches = table.get(f"{engine}_best_batch")
        if batch == "best" and batches is not None:
            times = [text if n != n else f"{text} at {n:.0f}" for text, n in zip(times, batches, strict=True)]
        words[f"{engine}, {'batch 1' if batch == '1' else 'best batch'}, ms"] = times
    if "onnx_apart" in table:
        words["onnx to torch"] = table["onnx_apart"].map("{:.1e}".format)
    return words


if __name__ == "__main__":
    main_of_table(tables)
