"""What do faults of the image other than blur cost? Macro-F1 and its change under each fault, at each strength.

    cellpatch train -m ... optics=faults        # evaluates runs that exist under faults, without training them again
    cellpatch tables runs robustness_table      # writes tables/robustness-DATA.* and tables/faults-DATA.*

Reads stored predictions, or packed runs, alone. The change is from clean cells, paired by seed and specimen: its 95 %
interval is over both. The slope is of macro-F1 against the strength, clean included, per unit of the fault; slopes of
different faults have different units. The second table has a column a model, at the flag_limit that most models have.
"""

from collections.abc import Sequence

import pandas as pd

from cellpatch.analysis.groups import SeedGroup, at_one_limit, limit_of, under_faults
from cellpatch.analysis.labels import by_label, keys_in
from cellpatch.analysis.robustness import change_under, summarise_faults
from cellpatch.cli.figures import main_of_table
from cellpatch.figures.captions import missing_groups_caption, sample_size_caption
from cellpatch.figures.tables import ShownTable, format_ci
from cellpatch.optics.conditions import faults_among

NOTE = "Change: macro-F1 under the fault less macro-F1 on clean cells, of the same seeds and specimens."


def tables(groups: Sequence[SeedGroup]) -> list[ShownTable]:
    """Both tables; raises ValueError if no run was evaluated under faults."""
    faulty = under_faults(groups)
    summary = summarise_faults(faulty)
    chosen = by_label(at_one_limit(faulty), groups)
    changes, missing = compared(chosen), missing_groups_caption("Not evaluated under faults", chosen, groups).strip()
    sizes = sample_size_caption(faulty, groups)
    caption = f"Change in macro-F1 under faults, flag_limit {limit_of(chosen)}"
    return [
        ShownTable("robustness", "Under faults other than blur", shown(summary), summary, (sizes, NOTE), NOTE),
        ShownTable("faults", caption, changes, changes, (sizes, NOTE, *([missing] if missing else []))),
    ]


def shown(summary: pd.DataFrame) -> pd.DataFrame:
    """The table for people: a row a group, fault and strength."""
    worded = summary[[*keys_in(summary), "seeds", "fault", "strength", "unit"]].assign(
        strength=[f"{strength:g}" for strength in summary["strength"]]
    )
    for name, title, digits in (("macro_f1", "macro-F1", 3), ("change", "change", 3), ("slope", "slope per unit", 5)):
        ends = summary[[name, f"{name}_low", f"{name}_high"]].to_numpy()
        sign = "" if name == "macro_f1" else "+"
        worded[title] = [format_ci(value, low, high, digits, sign) for value, low, high in ends]
    return worded


def compared(chosen: dict[str, SeedGroup]) -> pd.DataFrame:
    """Changes in macro-F1: a row a fault and strength that any model has, a column a model."""
    has = {label: group.fault_conditions() for label, group in chosen.items()}
    conditions = faults_among(set().union(*has.values()))
    columns = {}
    for label, group in chosen.items():
        changes = {condition: change_under(group, condition).summary() for condition in has[label]}
        columns[label] = [format_ci(*changes[each], sign="+") if each in changes else "-" for each in conditions]
    return pd.DataFrame({"fault": [condition.words for condition in conditions]} | columns)


if __name__ == "__main__":
    main_of_table(tables)
