"""The cells that a network may see without their labels, and the audit of them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from cellpatch.data.split_copies import find_copies, find_dropped, find_near_copies
from cellpatch.data.splitter import LabelledCells, Splitter
from cellpatch.runtime.json_types import Json

HELD_OUT = ("validation", "test")
Parts = Mapping[str, Int[np.ndarray, " k"]]


@dataclass(frozen=True)
class UnlabelledAudit:
    """Which cells were seen without labels; stored with a run.

    `cells` and `specimens` count what was seen. `cells_held_out` counts those of them in validation and test, always 0;
    `specimens_held_out` their specimens there, 0 but where the split divides specimens. `equal_to_test_crops` and
    `near_test_crops` count cells of training specimens that were left out, because a test cell's crop is equal or in
    the same near_group, or for data.split.near_copies=drop_specimens because that holds for a cell of their specimen.
    """

    cells: int
    specimens: int
    cells_held_out: dict[str, int]  # by part
    specimens_held_out: dict[str, int]  # by part
    equal_to_test_crops: int
    near_test_crops: int

    def as_json(self) -> Json:
        """The audit as a run's record stores it."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class UnlabelledCells:
    """Rising indices of cells of a store, and their audit."""

    indices: Int[np.ndarray, " n"]
    audit: UnlabelledAudit


def find_unlabelled(cells: LabelledCells, splitter: Splitter, classes: Sequence[str]) -> UnlabelledCells:
    """All cells of the training specimens, those of classes outside the study too, without copies of test crops.

    They depend on no label below a flag_limit, on no limit and on no seed of a run. Where the split divides specimens,
    they are the training part alone, before the limit. Raises ValueError as `Splitter.assign`, or if none is left.
    """
    parts = splitter.assign(cells, classes)
    candidates = np.flatnonzero(_is_candidate(cells, splitter, parts))
    tested = parts["test"] if splitter.divides_specimens else _of_specimens(cells, parts["test"])
    equal = find_copies(cells.digests[candidates], cells.digests[tested])
    near = np.zeros(len(candidates), bool)
    if cells.near_groups is not None:
        near = find_near_copies(cells.near_groups[candidates], cells.near_groups[tested]) & ~equal
    near |= find_dropped(near, equal, candidates, cells.specimens, splitter.near_copies)
    indices = candidates[~equal & ~near]
    if not len(indices):
        raise ValueError("no cell of a training specimen may be seen without its label: all equal test cells")
    held_out = {part: int(np.isin(indices, parts[part]).sum()) for part in HELD_OUT}
    shared = {part: len(np.intersect1d(cells.specimens[indices], cells.specimens[parts[part]])) for part in HELD_OUT}
    assert not any(held_out.values()), held_out
    assert splitter.divides_specimens or not any(shared.values()), shared
    specimens = len(pd.unique(cells.specimens[indices]))
    return UnlabelledCells(
        indices, UnlabelledAudit(len(indices), specimens, held_out, shared, int(equal.sum()), int(near.sum()))
    )


def _is_candidate(cells: LabelledCells, splitter: Splitter, parts: Parts) -> Bool[np.ndarray, " n"]:
    """Cells of training specimens; a source's own split, and a site that is held out, decide before the specimen."""
    trained = np.zeros(len(cells.labels), bool)
    if splitter.divides_specimens:
        trained[parts["train"]] = True
        return trained
    trained[_of_specimens(cells, parts["train"])] = True
    if cells.predefined_split is not None:
        trained &= cells.predefined_split == "train"
    if cells.sites is not None and splitter.held_out_sites is not None:
        trained &= ~np.isin(cells.sites.astype(str), splitter.held_out_sites)
    return trained


def _of_specimens(cells: LabelledCells, part: Int[np.ndarray, " k"]) -> Int[np.ndarray, " m"]:
    """All cells of the specimens of a part, whatever their class."""
    return np.flatnonzero(pd.Series(cells.specimens).isin(pd.unique(cells.specimens[part])))
