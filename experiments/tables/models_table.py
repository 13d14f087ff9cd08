"""Which model, adapted how, is best at which number of annotations? Means over seeds with their intervals.

    cellpatch tables runs models_table          # writes tables/models-DATA.csv, .md and .tex

Reads a runs directory or packed runs: intervals are 95 %, over specimens and seeds. `seconds` is the mean of the fit
alone, without the one pass over the cells that probes share. `pretrain_seconds`, where there is pretraining without
labels, is its mean: all limits of a seed share it. `widespread` is macro-F1 over the classes that lie in at least ten
test specimens. The last row of each limit is always naming the largest class. Below the table: the classes that
`widespread` leaves out, and between which limits a model from scratch overtakes a pretrained one in the mean.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from cellpatch.analysis.baselines import largest_class
from cellpatch.analysis.groups import SeedGroup
from cellpatch.analysis.labels import keys_in, row_of
from cellpatch.cli.figures import main_of_table
from cellpatch.figures.captions import sample_size_caption, widespread_caption
from cellpatch.figures.tables import MIXED_CODE, ShownTable, format_score, mixed_code_column
from cellpatch.metrics.scores import macro_f1
from cellpatch.optics.conditions import CLEAN
from cellpatch.runs.coordinates import FIELD, learns_all_weights

PRETRAIN = "pretrain_seconds"


def tables(groups: Sequence[SeedGroup]) -> list[ShownTable]:
    """The table, with crossings of means below where there are models from scratch and pretrained ones."""
    summary, classes = summarise(groups), widespread_caption(groups)
    notes = [sample_size_caption(groups), classes]
    own = summary["adapt"].map(learns_all_weights)
    if 0 < own.sum() < len(own):
        notes += mean_crossings(summary) or ["no model from scratch crosses a pretrained one between these limits"]
    table = with_baseline(summary, groups)
    return [ShownTable("models", "Macro-F1 of each model at each limit", shown(table), table, tuple(notes), classes)]


def summarise(groups: Sequence[SeedGroup]) -> pd.DataFrame:
    """One row per group: n of seeds, mean macro-F1 and its interval, seconds.

    Both sources of variation have a column: `sd_specimens`, of the mean over draws of specimens, and `sd_seeds`, of
    one seed.
    """
    rows = []
    for group in groups:
        estimate = group.estimate(CLEAN, macro_f1)
        low, high = estimate.interval()
        row = row_of(group, groups)
        row |= {"n_train": group.n_train, "seeds": len(group.seeds)}
        row |= {"macro_f1": estimate.mean, "low": low, "high": high}
        widespread, low, high = group.widespread_macro_f1.summary()
        row |= {"macro_f1_widespread": widespread, "low_widespread": low, "high_widespread": high}
        row |= {"sd_specimens": estimate.draws.mean(axis=1).std(ddof=1)}
        row |= {"sd_seeds": estimate.values.std(ddof=1) if len(estimate.values) > 1 else np.nan}
        row |= {"balanced_accuracy": np.mean([run.record.clean.balanced_accuracy for run in group.runs])}
        pretrain = [np.nan if (each := run.record.pretrain_seconds) is None else each for run in group.trainings]
        row |= {"seconds": np.mean([run.record.seconds.train for run in group.trainings]), PRETRAIN: np.mean(pretrain)}
        rows.append(row)
    table = pd.DataFrame(rows).assign(**mixed_code_column(groups))
    if table[PRETRAIN].isna().all():
        table = table.drop(columns=PRETRAIN)
    return table.sort_values(["flag_limit", "macro_f1"], ascending=[True, False], ignore_index=True)


def with_baseline(summary: pd.DataFrame, groups: Sequence[SeedGroup]) -> pd.DataFrame:
    """The table with a row after those of each limit: always naming the largest class, which needs no training."""
    rule = largest_class(groups, macro_f1)
    row = {"model": rule.label, "adapt": "-", "optics": "-", "n_train": 0, "seconds": 0.0, MIXED_CODE: "no"}
    row |= dict(zip(("macro_f1", "low", "high"), rule.score.summary(), strict=True))
    of_widespread = largest_class(groups, groups[0].widespread_score).score.summary()
    row |= dict(zip(("macro_f1_widespread", "low_widespread", "high_widespread"), of_widespread, strict=True))
    rows = pd.DataFrame([row | {"flag_limit": limit} for limit in summary["flag_limit"].unique()])
    whole_numbers = {"input_px": "Int64", "seeds": "Int64"}  # the rule has neither
    table = pd.concat([summary.astype(whole_numbers), rows.reindex(columns=summary.columns).astype(whole_numbers)])
    return table.sort_values("flag_limit", kind="stable", ignore_index=True)


def mean_crossings(summary: pd.DataFrame) -> list[str]:
    """Where the mean of a model from scratch rises above that of a pretrained one, or falls below.

    Models without published weights that were pretrained on these crops count as from scratch.
    """
    keys = [key for key in keys_in(summary) if key != "flag_limit"]
    means = summary.pivot_table(index=keys, columns="flag_limit", values="macro_f1")
    sentences = []
    for scratch in [key for key in means.index if learns_all_weights(key[1])]:
        for pretrained in [key for key in means.index if not learns_all_weights(key[1])]:
            leads = (means.loc[scratch] - means.loc[pretrained]).dropna()
            for (low, before), (high, after) in pairwise(leads.items()):
                if before * after < 0:
                    verb = "overtakes" if after > 0 else "falls behind"
                    own = dict(zip(keys, scratch, strict=True))
                    subject = own["model"] if own["adapt"] == "scratch" else f"{own['model']}, {own['adapt']},"
                    if details := _details(own, summary):
                        subject += f" ({', '.join(details)})"
                    other = dict(zip(keys, pretrained, strict=True))
                    side = ", ".join([f"{other['input_px']} px", *_details(other, summary)])
                    object_ = f"{other['model']}, {other['adapt']} ({side})"
                    sentences.append(f"{subject} {verb} {object_} between {low} and {high}")
    return sentences


def _details(row: Mapping[str, Any], summary: pd.DataFrame) -> list[str]:
    """Field and optics of a row in words, where the table has several."""
    words = [f"{row[FIELD]:g} um"] if FIELD in row else []
    return words + ([row["optics"]] if summary["optics"].nunique() > 1 else [])


def shown(summary: pd.DataFrame) -> pd.DataFrame:
    """The table for people."""
    columns = {
        "limit": summary["flag_limit"],
        "model": summary["model"],
        "adapt": summary["adapt"],
        **({"field, um": summary[FIELD].map("{:g}".format).replace("nan", "-")} if FIELD in summary else {}),
        "input": ["-" if pd.isna(side) else str(side) for side in summary["input_px"]],
        "optics": summary["optics"],
        "cells": summary["n_train"],
        "seeds": ["-" if pd.isna(seeds) else str(seeds) for seeds in summary["seeds"]],
        "macro-F1": [f"{value:.3f}" for value in summary["macro_f1"]],
        "95 %": [
            "-" if np.isnan(low) else f"{low:.3f} to {high:.3f}"
            for low, high in summary[["low", "high"]].itertuples(index=False, name=None)
        ],
        "widespread": [format_score(value) for value in summary["macro_f1_widespread"]],
        "seconds": [f"{value:.1f}" for value in summary["seconds"]],
    }
    if PRETRAIN in summary:
        columns["pretraining, s"] = ["" if np.isnan(value) else f"{value:.1f}" for value in summary[PRETRAIN]]
    return pd.DataFrame(columns | ({MIXED_CODE: summary[MIXED_CODE]} if MIXED_CODE in summary else {}))


if __name__ == "__main__":
    main_of_table(tables)
