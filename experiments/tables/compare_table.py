"""Is the best model better than the others by more than chance? Paired differences in macro-F1 to the best.

    cellpatch tables runs compare_table          # writes tables/compare-DATA.*

At the flag_limit that most models have. The difference is on the same test cells and seeds, its 95 % interval over
specimens and seeds. The best model was chosen on the same cells, and there are many. "behind at least" accounts for
both: a model is significantly behind only where that is above 0. In at most 5 % of studies any model that is as good
as the best is called behind. Beside it, macro-F1 over the classes that lie in at least ten test specimens, and how far
the model is behind by it. The last row is always naming the largest class.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cellpatch.analysis.comparison import compare_with_best
from cellpatch.analysis.groups import SeedGroup, at_one_limit
from cellpatch.analysis.labels import by_label
from cellpatch.cli.figures import main_of_table
from cellpatch.figures.captions import sample_size_caption, widespread_caption
from cellpatch.figures.tables import MIXED_CODE, ShownTable, format_ci, format_score, mixed_code_column

NOTE = (
    "A model is significantly behind if `behind at least` is above 0. That accounts for all comparisons, and for the "
    "choice of the best on the same cells. The last row is a rule, not one of the compared models."
)


def tables(groups: Sequence[SeedGroup]) -> list[ShownTable]:
    """The table; raises ValueError if fewer than two models share the flag_limit."""
    table = _with_mixed_code(compare_with_best(groups), groups)
    classes = widespread_caption(groups)
    notes = (sample_size_caption(groups), NOTE, classes)
    return [
        ShownTable("compare", "Behind the best, on the same cells", shown(table), table, notes, f"{NOTE} {classes}")
    ]


def _with_mixed_code(table: pd.DataFrame, groups: Sequence[SeedGroup]) -> pd.DataFrame:
    compared = by_label(at_one_limit(groups), groups)
    columns = mixed_code_column(list(compared.values()))
    by_model = {name: dict(zip(compared, words, strict=True)) for name, words in columns.items()}
    return table.assign(**{name: table["model"].map(words).fillna("no") for name, words in by_model.items()})


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table for people."""
    rows = table.to_dict("records")
    columns = {
        "model": [row["model"] for row in rows],
        "macro-F1": [f"{row['macro_f1']:.3f}" for row in rows],
        f"behind {rows[0]['best']} at {rows[0]['flag_limit']}": [
            format_ci(row["behind"], row["low"], row["high"]) for row in rows
        ],
        "behind at least": [
            *(f"{row['at_least']:.3f}" if row["at_least"] > 0 else "-" for row in rows[:-1]),
            "",  # of the rule
        ],
        "macro-F1, widespread": [format_score(row["macro_f1_widespread"]) for row in rows],
        "behind, widespread": [
            format_ci(row["behind_widespread"], row["low_widespread"], row["high_widespread"])
            if np.isfinite(row["behind_widespread"])
            else "-"
            for row in rows
        ],
        "shared seeds": [row["seeds"] for row in rows],
    }
    return pd.DataFrame(columns | ({MIXED_CODE: table[MIXED_CODE]} if MIXED_CODE in table else {}))


if __name__ == "__main__":
    main_of_table(tables)
