"""The predicted cells of runs, read from their folders: for what counts of confusions do not state."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Shaped

from cellpatch.analysis.groups import SeedGroup
from cellpatch.analysis.run_result import RunResult
from cellpatch.optics.conditions import CLEAN, Condition
from cellpatch.runs.predictions import Predictions
from cellpatch.runs.stored_run import VALIDATION, StoredRun

STRONG = Condition("post", 1.6)  # the study's strong level of blur
PACKED = "packed runs hold counts of cells, not their probabilities: name the runs directory"


@dataclass(frozen=True, eq=False)
class PredictedCells:
    """Cells with their probabilities; `specimens` are names, `ids` those of the cells."""

    ids: Shaped[np.ndarray, " n"]
    specimens: Shaped[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]
    probabilities: Float[np.ndarray, "n classes"]

    @property
    def specimen_codes(self) -> Int[np.ndarray, " n"]:
        """Each cell's place among the sorted names of the specimens, which is their order in confusion matrices."""
        return pd.factorize(self.specimens, sort=True)[0]

    def confusions(self, kept: Bool[np.ndarray, " n"] | None = None) -> Int[np.ndarray, "specimens classes classes"]:
        """One confusion matrix per specimen, of all cells or the kept ones; rows are true classes."""
        chosen = slice(None) if kept is None else kept
        codes, classes = self.specimen_codes, self.probabilities.shape[1]
        counts = np.zeros((codes.max() + 1, classes, classes), np.int64)
        np.add.at(counts, (codes[chosen], self.labels[chosen], self.probabilities[chosen].argmax(axis=1)), 1)
        return counts


def with_cells(groups: Sequence[SeedGroup]) -> list[SeedGroup]:
    """The groups whose runs are in folders; raises ValueError if none is."""
    found = [group for group in groups if all(run.folder is not None for run in group.trainings)]
    if not found:
        raise ValueError(PACKED)
    return found


def compared_conditions(group: SeedGroup) -> list[Condition]:
    """Clean, and the strong blur if the group was evaluated under it: what tables compare."""
    return [condition for condition in (CLEAN, STRONG) if condition in group.conditions()]


def cells_of(run: RunResult, condition: Condition = CLEAN, turned: bool = False) -> PredictedCells:
    """The test cells of a run, or of all its folds; `turned` takes the means over turned views of each cell.

    Raises ValueError for a packed run, and for files that are not as its record states.
    """
    return joined([_of(_opened(each), condition, turned) for each in run.trainings])


def validation_cells(training: RunResult) -> PredictedCells:
    """The clean validation cells of one training; raises ValueError as `cells_of`, and if none were stored."""
    run = _opened(training)
    if CLEAN not in run.validation:
        raise ValueError(f"{training.run}: its version did not store validation cells: train it with this one")
    return _cells(run.validation[CLEAN])


def has_validation(training: RunResult) -> bool:
    """Whether a training is in a folder with the predictions of its validation cells."""
    return training.folder is not None and VALIDATION in training.record.files


def _of(run: StoredRun, condition: Condition, turned: bool) -> PredictedCells:
    return _cells((run.turned_predictions if turned else run.predictions)[condition])


@lru_cache(maxsize=16)  # all conditions of a run are asked for one after another
def _opened(training: RunResult) -> StoredRun:
    if training.folder is None:
        raise ValueError(PACKED)
    return StoredRun.open(training.folder)


def _cells(found: Predictions) -> PredictedCells:
    ids, specimens = (found.rows[column].to_numpy(object) for column in ("cell_id", "specimen"))
    return PredictedCells(ids, specimens, found.labels, found.probabilities)


def joined(parts: Sequence[PredictedCells]) -> PredictedCells:
    """The cells of several parts, such as folds, as one."""
    if len(parts) == 1:
        return parts[0]
    return PredictedCells(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in PredictedCells.__dataclass_fields__)
    )
