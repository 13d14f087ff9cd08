"""Groups whose least sure cells are sent to a human: scores of the rest, and how many must be sent."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cellpatch.analysis.cells import cells_of, compared_conditions, with_cells
from cellpatch.analysis.estimates import Estimate
from cellpatch.analysis.groups import SeedGroup
from cellpatch.analysis.labels import row_of
from cellpatch.metrics.referral import ShareToSend, kept_cells, risk_area, step_counts
from cellpatch.metrics.scores import Score, accuracy, class_counts
from cellpatch.optics.conditions import Condition

SHARES = tuple(round(0.1 * step, 1) for step in range(9))  # of cells that are sent, in figures
TARGET = 0.95  # accuracy of the rest


def rest_curve(group: SeedGroup, condition: Condition, score: Score) -> dict[float, Estimate]:
    """The score of the cells that are left, by the share of the least sure ones that are sent.

    Which cells are sent is the same in all draws of specimens.
    """
    cells = [cells_of(run, condition) for run in group.runs]
    curve = {}
    for share in SHARES:
        kept = [kept_cells(each.probabilities, share) for each in cells]
        counts = [class_counts(each.confusions(chosen)) for each, chosen in zip(cells, kept, strict=True)]
        with np.errstate(invalid="ignore"):  # a draw without a cell that is left has no score, and so no interval
            curve[share] = group.estimate_counts(counts, score)
    return curve


def area_and_share(group: SeedGroup, condition: Condition) -> tuple[Estimate, Estimate]:
    """The area under the curve of risk and coverage, and the share to send for an accuracy of TARGET of the rest."""
    cells = [cells_of(run, condition) for run in group.runs]
    counts = [step_counts(each.labels, each.probabilities, each.specimen_codes, group.n_specimens) for each in cells]
    return group.estimate_counts(counts, risk_area), group.estimate_counts(counts, ShareToSend(TARGET))


def summarise_referral(groups: Sequence[SeedGroup]) -> pd.DataFrame:
    """One row per group and condition: accuracy of all cells, the area, and the share to send; 95 % intervals.

    Raises ValueError if all runs are packed.
    """
    rows = []
    for group in with_cells(groups):
        about = row_of(group, groups) | {"seeds": len(group.seeds)}
        for condition in compared_conditions(group):
            area, share = area_and_share(group, condition)
            row = {"kind": condition.kind, "sigma": condition.sigma}
            for name, estimate in (
                ("accuracy", group.estimate(condition, accuracy)),
                ("risk_area", area),
                ("share_to_send", share),
            ):
                row |= dict(zip((name, f"{name}_low", f"{name}_high"), estimate.summary(), strict=True))
            rows.append(about | row)
    return pd.DataFrame(rows)
