"""How many cells of each class are there, in each part of the split and at each flag_limit?

    cellpatch tables runs counts_table          # writes tables/counts-DATA.csv, .md and .tex

Training cells at a flag_limit are of one seed: other seeds draw others, as many. Specimens are those of the test.
"""

from collections.abc import Sequence

import pandas as pd

from cellpatch.analysis.groups import SeedGroup
from cellpatch.cli.figures import main_of_table
from cellpatch.figures.captions import sample_size_caption
from cellpatch.figures.tables import ShownTable
from cellpatch.optics.conditions import CLEAN


def tables(groups: Sequence[SeedGroup]) -> list[ShownTable]:
    """A row a class, and one of all cells."""
    table = count(groups)
    note = (
        "Training cells are those of one seed, at each flag_limit; test specimens are those with a cell of the class."
    )
    sizes = sample_size_caption(groups, intervals="")
    return [ShownTable("counts", "Cells of each class", table, table, (note, sizes), note)]


def count(groups: Sequence[SeedGroup]) -> pd.DataFrame:
    """Cells by class: of training at each limit, of validation where records state it, of the test; test specimens."""
    run = groups[0].runs[0]
    classes = run.record.classes
    columns: dict[str, list[int]] = {}
    for limit, record in sorted({g.coordinates.flag_limit: g.runs[0].record for g in groups}.items()):
        columns[f"training at {limit}"] = [record.counts["train"].get(name, 0) for name in classes]
    if "validation" in run.record.counts:
        columns["validation"] = [run.record.counts["validation"].get(name, 0) for name in classes]
    columns["test"] = run.confusions[CLEAN].sum(axis=(0, 2)).tolist()
    by_class = groups[0].specimens_by_class
    totals = [*(sum(values) for values in columns.values()), groups[0].n_specimens]
    columns["test specimens"] = [by_class.get(name, 0) for name in classes]
    table = pd.DataFrame({"class": classes} | columns).sort_values("test", ascending=False, kind="stable")
    return pd.concat([table, pd.DataFrame([["all", *totals]], columns=table.columns)], ignore_index=True)


if __name__ == "__main__":
    main_of_table(tables)
