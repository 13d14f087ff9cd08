"""What do models score on the cells of another hospital, scanner or stain? Own test cells against external cohorts.

    cellpatch evaluate runs data=points data.root=DIR ... data.name=hospital_b      # adds a cohort to runs
    cellpatch tables runs external_table      # writes tables/external-DATA.*

Macro-F1 on clean cells, over the classes that the cohort has. The change is of the same networks; its 95 % interval is
over seeds and over the specimens of both.
"""

from collections.abc import Sequence

from cellpatch.analysis.external import cohort_names, summarise_cohorts
from cellpatch.analysis.groups import SeedGroup
from cellpatch.analysis.labels import row_keys
from cellpatch.cli.figures import main_of_table
from cellpatch.figures.captions import sample_size_caption
from cellpatch.figures.cohort_captions import cohort_caption
from cellpatch.figures.tables import ShownTable, format_ci


def tables(groups: Sequence[SeedGroup]) -> list[ShownTable]:
    """A row a cohort and group; raises ValueError if no run was evaluated on a cohort."""
    summary = summarise_cohorts(groups)
    shown = summary[["cohort", *row_keys(groups), "seeds"]].copy()
    titles = {"own": "own test cells", "external": "on the cohort", "change": "change"}
    for part, title in titles.items():
        sign = "+" if part == "change" else ""
        ends = summary[[part, f"{part}_low", f"{part}_high"]].to_numpy()
        shown[title] = [format_ci(mean, low, high, sign=sign) for mean, low, high in ends]
    notes = tuple(cohort_caption(groups, name) for name in cohort_names(groups))
    caption = "Macro-F1 on own test cells and on external cohorts"
    return [ShownTable("external", caption, shown, summary, (f"Own cells: {sample_size_caption(groups)}", *notes))]


if __name__ == "__main__":
    main_of_table(tables)
