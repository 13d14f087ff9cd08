"""Labels that somebody should look at again: likely errors, copies in other specimens, outliers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from cellpatch.analysis.copies import find_partners
from cellpatch.analysis.label_errors import LabelErrors, find_label_errors
from cellpatch.analysis.out_of_sample import OutOfSample, one_group, out_of_sample
from cellpatch.analysis.run_result import RunResult
from cellpatch.data.store.reader import CellStore
from cellpatch.inference.outliers import outlier_distance
from cellpatch.runs.stored_run import require_store

ERROR, OTHER_CLASS, COPY, OUTLIER = "likely label error", "copy with another label", "copy", "outlier"  # by urgency
LEAST_PER_OUTLIER = 20  # cells: our choice


@dataclass(frozen=True, eq=False)
class Audit:
    """What was found about the test cells of a group.

    `rows` are the cells' positions in the store, `partners` those of a copy in another specimen (-1: none).
    `distances` are as `outlier_distance`, zeros if outliers were not asked for; `outliers` are the farthest.
    """

    tested: OutOfSample
    store: CellStore
    rows: Int[np.ndarray, " n"]
    errors: LabelErrors
    partners: Int[np.ndarray, " n"]
    distances: Float[np.ndarray, " n"]
    outliers: Bool[np.ndarray, " n"]

    def reasons(self) -> dict[str, Bool[np.ndarray, " n"]]:
        """Which cells are listed, by reason."""
        copied = self.partners >= 0
        labels = self.store.labels
        differs = copied & (labels[self.partners] != labels[self.rows])
        return {ERROR: self.errors.likely, OTHER_CLASS: differs, COPY: copied & ~differs, OUTLIER: self.outliers}

    def warnings(self) -> list[str]:
        """A sentence for each class of which most cells are listed as errors: the networks do not find it."""
        sentences = []
        for code, name in enumerate(self.tested.classes):
            of_class = self.tested.labels == code
            listed, cells = int(self.errors.likely[of_class].sum()), int(of_class.sum())
            if listed > cells / 2:
                sentences.append(
                    f"{listed} of {cells} cells of {name} are listed as likely errors: the networks do not find this "
                    "class, so this says little about its labels."
                )
        return sentences

    def findings(self) -> pd.DataFrame:
        """A row a listed cell: the most urgent reason first, then the worst label quality.

        Its index is the cell's position in `rows`.
        """
        by_reason = self.reasons()
        first = np.argmax(list(by_reason.values()), axis=0)
        listed = np.flatnonzero(np.any(list(by_reason.values()), axis=0))
        classes = np.array(self.tested.classes)
        cells = self.store.cells.iloc[self.rows[listed]].reset_index(drop=True)
        ids = self.store.cells["cell_id"].astype(str).to_numpy()
        names = np.array(list(by_reason))
        table = pd.DataFrame({name: cells[name].astype(str) for name in ("cell_id", "specimen")})
        table["image"] = cells["image"].fillna("") if "image" in cells else ""
        table = table.assign(x=cells["x"], y=cells["y"], source=cells["source"])
        table["label"] = classes[self.tested.labels[listed]]
        table["suggested"] = np.where(self.errors.likely, classes[self.errors.suggested], "")[listed]
        table["label_quality"] = self.errors.quality[listed].round(4)
        for code, name in enumerate(self.tested.classes):
            table[f"p_{name}"] = self.tested.probabilities[listed, code].round(4)
        table["reasons"] = ["; ".join(names[[found[i] for found in by_reason.values()]]) for i in listed]
        table["copy_of"] = np.where(self.partners >= 0, ids[self.partners], "")[listed]
        table["outlier_distance"] = self.distances[listed].round(3)
        table.index = pd.Index(listed)
        return table.iloc[np.lexsort((table["label_quality"], first[listed]))]


def audit(results: Sequence[RunResult], outliers: int, weights_file: Path | None = None) -> Audit:
    """Audit the labels of the test cells of one group's runs.

    Lists so many `outliers`, but at most one in LEAST_PER_OUTLIER cells; 0 needs no weights.

    Raises ValueError for runs of several groups, packed runs, cells that are not on this machine, and networks that
    cannot be restored.
    """
    tested = out_of_sample(one_group(results))
    store = require_store(tested.trainings[0].record)
    rows = pd.Index(store.cells["cell_id"].astype(str)).get_indexer(pd.Index(tested.cells["cell_id"]))
    distances = np.zeros(len(rows))
    if outliers:
        distances = outlier_distance(tested, store, rows, weights_file)
    farthest = np.zeros(len(rows), bool)
    farthest[np.argsort(-distances, kind="stable")[: min(outliers, len(rows) // LEAST_PER_OUTLIER)]] = True
    errors = find_label_errors(tested.labels, tested.probabilities)
    return Audit(tested, store, rows, errors, find_partners(store.cells)[rows], distances, farthest & (distances > 0))
