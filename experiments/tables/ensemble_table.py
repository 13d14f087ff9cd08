"""What do averages gain, and what do they cost? Single networks, ensembles of seeds, test-time augmentation, both.

    cellpatch evaluate runs --tta             # adds test-time augmentation to runs
    cellpatch tables runs ensemble_table      # writes tables/ensemble-DATA.*

Macro-F1 on clean cells and under strong blur, and its change from single networks, paired by specimen. An ensemble is
of the seeds of a row: its interval is over specimens alone. ECE and NLL are after temperature scaling.
"""

from collections.abc import Sequence

import pandas as pd

from cellpatch.analysis.ensembles import summarise_averages, with_averages
from cellpatch.analysis.groups import SeedGroup
from cellpatch.analysis.labels import keys_in
from cellpatch.cli.figures import main_of_table
from cellpatch.figures.captions import sample_size_caption
from cellpatch.figures.tables import ShownTable, format_ci
from cellpatch.optics.conditions import Condition

NOTE = (
    "Change: macro-F1 less that of single networks, paired by specimen. Intervals of ensembles are of these networks, "
    "over specimens alone. MMAC: million multiply-accumulates for one cell, all passes."
)


def tables(groups: Sequence[SeedGroup]) -> list[ShownTable]:
    """A row a group and way to average; raises ValueError if no group has more than single networks."""
    summary = summarise_averages(groups)
    sizes = sample_size_caption(with_averages(groups), groups)
    return [ShownTable("ensemble", "Averages of networks and of views", _shown(summary), summary, (sizes, NOTE), NOTE)]


def _shown(rows: pd.DataFrame) -> pd.DataFrame:
    shown = rows[[*keys_in(rows), "seeds"]].copy()
    places = zip(rows["kind"], rows["sigma"], strict=True)
    shown["cells"] = [str(Condition(kind, sigma)) for kind, sigma in places]
    shown[["by", "passes"]] = rows[["by", "passes"]]
    shown["MMAC"] = ["-" if pd.isna(mmac) else f"{mmac:.4g}" for mmac in rows["mmac"]]
    for name, title, sign in (("macro_f1", "macro-F1", ""), ("change", "change", "+")):
        ends = rows[[name, f"{name}_low", f"{name}_high"]].to_numpy()
        shown[title] = [format_ci(value, low, high, sign=sign) for value, low, high in ends]
    for name, title in (("accuracy", "accuracy"), ("ece", "ECE"), ("nll", "NLL")):
        shown[title] = [f"{value:.3f}" for value in rows[name]]
    return shown


if __name__ == "__main__":
    main_of_table(tables)
