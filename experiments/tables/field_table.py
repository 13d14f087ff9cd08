"""How much context does a cell need? Macro-F1 at each field of view, and the change from the smallest one.

    cellpatch train -m data=points ... data.field_um=10,20,40 data.widest_field_um=40
    cellpatch tables runs field_table          # writes tables/field-DATA.csv, .md and .tex

A row a model, limit and field. The change is paired: by seed, and by specimen. Intervals are 95 %, over both.
"""

from collections.abc import Sequence

import pandas as pd

from cellpatch.analysis.estimates import difference
from cellpatch.analysis.groups import SeedGroup
from cellpatch.analysis.input_axes import FIELD_OF_VIEW, axis_curves
from cellpatch.cli.figures import main_of_table
from cellpatch.figures.captions import sample_size_caption
from cellpatch.figures.tables import ShownTable, format_ci
from cellpatch.metrics.scores import macro_f1
from cellpatch.optics.conditions import CLEAN


def tables(groups: Sequence[SeedGroup]) -> list[ShownTable]:
    """The table; raises ValueError if there is one field only."""
    curves = axis_curves(FIELD_OF_VIEW, groups)
    if not curves:
        raise ValueError(FIELD_OF_VIEW.advice)
    rows, words = [], []
    for curve in curves:
        smallest = min(curve.by_value)
        first = curve.by_value[smallest].estimate(CLEAN, macro_f1)
        for field, group in sorted(curve.by_value.items()):
            score = group.estimate(CLEAN, macro_f1)
            change = difference(score, first) if field > smallest else None
            about = {"model": curve.label, "flag_limit": curve.limit, "field_um": field, "seeds": len(group.seeds)}
            row = dict(zip(("macro_f1", "low", "high"), score.summary(), strict=True))
            if change is not None:
                row |= dict(zip(("change", "change_low", "change_high"), change.summary(), strict=True))
            rows.append(about | row)
            shown = {"macro-F1": format_ci(*score.summary())}
            shown["change"] = "-" if change is None else format_ci(*change.summary(), sign="+")
            words.append(about | {"field_um": f"{field:g}"} | shown)
    sizes = sample_size_caption([group for curve in curves for group in curve.by_value.values()], groups)
    caption = "Macro-F1 at each field of view"
    return [ShownTable("field", caption, pd.DataFrame(words), pd.DataFrame(rows), (sizes,))]


if __name__ == "__main__":
    main_of_table(tables)
