"""Groups whose least sure cells are sent to a human: scores of the rest, and how many must be sent."""

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import pandas as pd

from cellpatch.analysis.cells import PredictedCells, cells_of, compared_conditions, with_cells
from cellpatch.analysis.estimates import Estimate
from cellpatch.analysis.groups import SeedGroup
from cellpatch.analysis.labels import row_of
from cellpatch.metrics.referral import ShareToSend, kept_cells, kept_counts, risk_area
from cellpatch.metrics.scores import Score, accuracy, class_counts
from cellpatch.optics.conditions import Condition

Counted = TypeVar("Counted")
SHARES = tuple(round(0.1 * step, 1) for step in range(9))  # of cells that are sent, in figures
TARGET = 0.95  # accuracy of the rest


def rest_curves(
    group: SeedGroup, asked: Sequence[tuple[Score, Condition]]
) -> Iterator[tuple[Score, Condition, dict[float, Estimate]]]:
    """Scores of the cells that are left, by the share of the least sure ones that are sent; for each that is asked.

    Which cells are sent is the same in all draws of specimens.
    """
    counts = _of_each_run(group, {condition for _, condition in asked}, _rest_counts)
    for score, condition in asked:
        with np.errstate(invalid="ignore"):  # a draw without a cell that is left has no score, and so no interval
            curve = {
                share: group.estimate_counts([of_run[condition][share] for of_run in counts], score) for share in SHARES
            }
        yield score, condition, curve


def _of_each_run(
    group: SeedGroup, conditions: Collection[Condition], count: Callable[[PredictedCells], Counted]
) -> list[dict[Condition, Counted]]:
    """What is counted of the cells of each run, by condition; each run is read once, several at a time."""
    with ThreadPoolExecutor() as threads:
        return list(threads.map(lambda run: {at: count(cells_of(run, at)) for at in conditions}, group.runs))


def _rest_counts(cells: PredictedCells) -> dict[float, np.ndarray]:
    """Class counts of the cells that are left, by the share that is sent."""
    return {share: class_counts(cells.confusions(kept_cells(cells.probabilities, share))) for share in SHARES}


def _kept_counts(cells: PredictedCells) -> np.ndarray:
    codes = cells.specimen_codes
    return kept_counts(cells.labels, cells.probabilities, codes, int(codes.max()) + 1)


def summarise_referral(groups: Sequence[SeedGroup]) -> pd.DataFrame:
    """One row per group and condition: accuracy of all cells, the area, and the share to send; 95 % intervals.

    The area is that under the curve of risk and coverage, the share is for an accuracy of TARGET of the rest.

    Raises ValueError if all runs are packed.
    """
    rows = []
    for group in with_cells(groups):
        about = row_of(group, groups) | {"seeds": len(group.seeds)}
        of_runs = _of_each_run(group, compared_conditions(group), _kept_counts)
        for condition in compared_conditions(group):
            counts = [each[condition] for each in of_runs]
            row = {"kind": condition.kind, "sigma": condition.sigma}
            for name, estimate in (
                ("accuracy", group.estimate(condition, accuracy)),
                ("risk_area", group.estimate_counts(counts, risk_area)),
                ("share_to_send", group.estimate_counts(counts, ShareToSend(TARGET))),
            ):
                row |= dict(zip((name, f"{name}_low", f"{name}_high"), estimate.summary(), strict=True))
            rows.append(about | row)
    return pd.DataFrame(rows)
