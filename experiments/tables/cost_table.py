"""What did each cell of the grid cost to train, and was it trained long enough? Updates, core and GPU seconds.

    cellpatch tables runs cost_table          # writes tables/cost-DATA.csv, .md and .tex

Medians over seeds. Core seconds are wall seconds of the fit times threads; of a probe, with the one pass over the cells
that made its features, which all probes of a model and input side share. GPU seconds are wall seconds of a training on
one GPU, whatever else it did. `best at last` counts the trainings whose best validation was their last: more updates
may raise their scores. `-` is what records do not state: updates before 0.4.0, threads, trainings on several devices,
and features that existed before these runs.
"""

from collections.abc import Sequence

import pandas as pd

from cellpatch.analysis.costs import machines, training_cost
from cellpatch.analysis.groups import SeedGroup
from cellpatch.analysis.labels import row_keys, row_of
from cellpatch.cli.figures import main_of_table
from cellpatch.figures.captions import baseline_caption, cost_caption, sample_size_caption
from cellpatch.figures.tables import ShownTable
from cellpatch.metrics.scores import macro_f1
from cellpatch.optics.conditions import CLEAN
from cellpatch.runs.coordinates import FIELD


def tables(groups: Sequence[SeedGroup]) -> list[ShownTable]:
    """The table; raises ValueError if no record states updates or seconds."""
    table = summarise(groups)
    if table[["updates", "core_seconds", "gpu_seconds"]].isna().all(axis=None):
        raise ValueError("no record states updates, or seconds and threads or GPU of a training")
    on_gpu = bool(table["gpu_seconds"].notna().any())
    note = cost_caption(machines([run for group in groups for run in group.trainings]), on_gpu)
    return [
        ShownTable(
            "cost",
            "Updates and seconds of each training",
            shown(table),
            table,
            (note, sample_size_caption(groups), baseline_caption(groups)),
            note,
        )
    ]


def summarise(groups: Sequence[SeedGroup]) -> pd.DataFrame:
    """One row per group; missing where a record does not state it."""
    rows = []
    for group in groups:
        cost = training_cost(group, groups)
        row = row_of(group, groups)
        row |= {"n_train": group.n_train, "seeds": len(group.seeds)}
        row |= {"macro_f1": group.estimate(CLEAN, macro_f1).mean}
        row |= {"updates": cost.updates, "core_seconds": cost.core_seconds, "gpu_seconds": cost.gpu_seconds}
        row |= {"pass_core_seconds": cost.pass_core_seconds}
        rows.append(row | {"trainings": cost.trainings, "best_at_last": cost.best_at_last})
    numbers = ["updates", "core_seconds", "gpu_seconds", "pass_core_seconds"]
    return pd.DataFrame(rows).astype(dict.fromkeys(numbers, float)).sort_values(["flag_limit", *row_keys(groups)[:-1]])


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table for people."""
    rows = table.to_dict("records")
    return pd.DataFrame(
        {
            "limit": table["flag_limit"],
            "model": table["model"],
            "adapt": table["adapt"],
            **({"field, um": table[FIELD].map("{:g}".format)} if FIELD in table else {}),
            "input": table["input_px"],
            "optics": table["optics"],
            "cells": table["n_train"],
            "seeds": table["seeds"],
            "macro-F1": [f"{row['macro_f1']:.3f}" for row in rows],
            "updates": [_whole(row["updates"]) for row in rows],
            "core seconds": [_whole(row["core_seconds"]) for row in rows],
            "of them the pass": [_whole(row["pass_core_seconds"]) for row in rows],
            "GPU seconds": [_whole(row["gpu_seconds"]) for row in rows],
            "best at last": [
                f"{row['best_at_last']} of {row['trainings']}" if row["trainings"] else "-" for row in rows
            ],
        }
    )


def _whole(value: float) -> str:
    """Three digits at least below a hundred, none behind the point above."""
    return "-" if value != value else f"{value:.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main_of_table(tables)
