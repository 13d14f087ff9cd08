"""Do prediction sets hold what they promise? Their coverage and size on test specimens, clean and under strong blur.

    cellpatch tables runs sets_table          # writes tables/sets-DATA.* and tables/set_classes-DATA.*

Sets of 90 %, calibrated on clean validation cells: by cell, by specimen, and by specimen of each class. Coverage is the
mean over test specimens. The second table has the coverage of each class, at the flag_limit that most models have.
Needs the runs directory: packed runs hold no probabilities.
"""

from collections.abc import Sequence

import pandas as pd

from cellpatch.analysis.cells import with_cells
from cellpatch.analysis.groups import SeedGroup, at_one_limit, limit_of
from cellpatch.analysis.labels import by_label, keys_in
from cellpatch.analysis.sets import CALIBRATIONS, LEVEL, measure_sets, summarise_sets
from cellpatch.cli.figures import main_of_table
from cellpatch.figures.captions import missing_groups_caption, sample_size_caption
from cellpatch.figures.tables import ShownTable, format_ci
from cellpatch.optics.conditions import CLEAN, Condition

NOTE = (
    f"Sets of {100 * LEVEL:g} %. Coverage: the share of sets with the true class, the mean over test specimens; "
    "lowest: in the specimen with the least. Thresholds are of clean validation cells, which also chose the networks. "
    "Calibration by cell, as usual, takes cells of one specimen for independent: for comparison."
)


def tables(groups: Sequence[SeedGroup]) -> list[ShownTable]:
    """Both tables; raises ValueError if all runs are packed, or have too few validation specimens."""
    chosen = with_cells(groups)
    summary = summarise_sets(chosen)
    sizes = sample_size_caption(chosen, groups)
    of_limit = by_label(at_one_limit(chosen), groups)
    classes = _by_class(of_limit)
    missing = missing_groups_caption("Packed", of_limit, groups).strip()
    caption = f"Coverage of each class by clean sets, flag_limit {limit_of(of_limit)}"
    return [
        ShownTable("sets", "Prediction sets on test specimens", _shown(summary), summary, (sizes, NOTE), NOTE),
        ShownTable("set_classes", caption, classes, classes, (sizes, NOTE, *([missing] if missing else []))),
    ]


def _shown(summary: pd.DataFrame) -> pd.DataFrame:
    """A row a group, condition and calibration."""
    conditions = [Condition(kind, sigma) for kind, sigma in zip(summary["kind"], summary["sigma"], strict=True)]
    shown = summary[[*keys_in(summary), "seeds"]].copy()
    shown["cells"] = [str(condition) for condition in conditions]
    shown["calibrated by"] = summary["calibrated_by"]
    ends = summary[["coverage", "coverage_low", "coverage_high"]].to_numpy()
    shown["coverage"] = [format_ci(*each) for each in ends]
    shown["lowest"] = [f"{value:.2f}" for value in summary["lowest_specimen"]]
    shown["classes a set"] = [f"{value:.2f}" for value in summary["classes"]]
    for name in ("single", "empty"):
        shown[f"{name}, %"] = [f"{100 * value:.1f}" for value in summary[name]]
    return shown


def _by_class(chosen: dict[str, SeedGroup]) -> pd.DataFrame:
    """A row a class and calibration, a column a model."""
    columns: dict[str, list[str]] = {"class": [], "calibrated by": []}
    names = next(iter(chosen.values())).runs[0].record.classes
    columns["class"] = [name for name in names for _ in CALIBRATIONS]
    columns["calibrated by"] = [name for _ in names for name in CALIBRATIONS]
    for label, group in chosen.items():
        found = {name: measure_sets(group, CLEAN, LEVEL, each).of_class for name, each in CALIBRATIONS.items()}
        cells = [found[calibration].get(name) for name in names for calibration in CALIBRATIONS]
        columns[label] = ["-" if each is None else format_ci(*each.summary()) for each in cells]
    return pd.DataFrame(columns)


if __name__ == "__main__":
    main_of_table(tables)
