"""The scores of a run under each condition, from predictions."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from cellpatch.data.dataset import CellDataset
from cellpatch.metrics.classification import Costs, score_predictions
from cellpatch.optics.conditions import Condition
from cellpatch.optics.operator import OpticalPath, reaches_beyond_margin
from cellpatch.runs.condition_scores import ConditionScores
from cellpatch.runs.stored_run import StoredRun


def rescore(run: StoredRun, costs: Costs) -> list[ConditionScores]:
    """The scores of every stored condition with its cost, from the stored predictions."""
    rows = []
    for row in run.record.metrics:
        _, labels, probabilities = run.predictions[row.condition]
        error = costs.error(labels, probabilities, run.record.classes)
        rows.append(replace(row, scores=replace(row.scores, cost_weighted_error=error)))
    return rows


def score(
    dataset: CellDataset,
    path: OpticalPath,
    predicted: Mapping[Condition, Float[np.ndarray, "n classes"]],
    temperature: float,
    costs: Costs,
) -> list[ConditionScores]:
    """The scores of the test cells' probabilities under each condition."""
    cells = dataset.store.rows(dataset.split.test)
    return score_cells(cells, dataset.test_labels, dataset.classes, path, predicted, temperature, costs)


def score_cells(
    cells: pd.DataFrame,
    labels: Int[np.ndarray, " n"],
    classes: Sequence[str],
    path: OpticalPath,
    predicted: Mapping[Condition, Float[np.ndarray, "n classes"]],
    temperature: float,
    costs: Costs | None,
) -> list[ConditionScores]:
    """The scores of the probabilities of some cells of a store under each condition."""
    mirrored = Counter(cells["mirrored_px"].tolist())
    rows = []
    for condition, probabilities in predicted.items():
        reached = sum(n for pixels, n in mirrored.items() if pixels and reaches_beyond_margin(condition, path, pixels))
        scores = score_predictions(labels, probabilities, classes, temperature, costs)
        rows.append(ConditionScores(condition, scores, reached))
    return rows
