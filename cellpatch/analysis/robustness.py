"""Scores of groups under faults of the image other than blur, and how much each fault changes them."""

from collections.abc import Sequence

import pandas as pd

from cellpatch.analysis.estimates import Estimate, combine, difference
from cellpatch.analysis.groups import SeedGroup
from cellpatch.analysis.labels import row_of
from cellpatch.metrics import degradation
from cellpatch.metrics.scores import Score, macro_f1
from cellpatch.optics.conditions import CLEAN, FAULTS, Condition


def change_under(group: SeedGroup, condition: Condition, score: Score = macro_f1) -> Estimate:
    """The score under a condition less that on clean cells, paired by seed and specimen."""
    return difference(group.estimate(condition, score), group.estimate(CLEAN, score))


def slope_of_fault(group: SeedGroup, kind: str, score: Score = macro_f1) -> Estimate:
    """The slope of the score against the strength of a fault, clean included, per unit of the fault."""
    conditions = [CLEAN, *(each for each in group.fault_conditions() if each.kind == kind)]
    strengths = [condition.sigma for condition in conditions]
    estimates = [group.estimate(condition, score) for condition in conditions]
    return combine(lambda scores: degradation.slope_per_unit(strengths, scores), estimates)


def summarise_faults(groups: Sequence[SeedGroup]) -> pd.DataFrame:
    """One row per group, fault and strength, with 95 % intervals: macro-F1, its change from clean, and the slope.

    The slope is of all strengths of the fault, and so equal in its rows: macro-F1 per `unit` of the strength.
    """
    rows = []
    for group in groups:
        about = row_of(group, groups)
        about |= {"seeds": len(group.seeds), "n_test": group.n_test, "specimens": group.n_specimens}
        conditions = group.fault_conditions()
        slopes = {kind: slope_of_fault(group, kind) for kind in {condition.kind for condition in conditions}}
        for condition in conditions:
            row = {"fault": condition.kind, "strength": condition.sigma, "unit": FAULTS[condition.kind].unit}
            for name, estimate in (
                ("macro_f1", group.estimate(condition, macro_f1)),
                ("change", change_under(group, condition)),
                ("slope", slopes[condition.kind]),
            ):
                row |= dict(zip((name, f"{name}_low", f"{name}_high"), estimate.summary(), strict=True))
            rows.append(about | row)
    return pd.DataFrame(rows)
