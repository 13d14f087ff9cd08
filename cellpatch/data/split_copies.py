"""Copies of test crops in training and validation: which cells they are, and which are left out for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, Shaped

from cellpatch.data.specimens import Specimens

NearCopies = Literal["keep", "drop_cells", "drop_specimens"]  # values of data.split.near_copies


@dataclass(frozen=True)
class LeftOut:
    """Cells that were left out of a part, and how many specimens they are of."""

    cells: int
    specimens: int


def find_copies(digests: Shaped[np.ndarray, " m"], others: Shaped[np.ndarray, " k"]) -> Bool[np.ndarray, " m"]:
    """Which digests of 16 bytes are among `others`: first by 8 bytes in a hash table, then the matches by all 16."""
    first, first_of_others = (array.view(np.uint64).reshape(-1, 2)[:, 0] for array in (digests, others))
    equal = pd.Series(first).isin(first_of_others).to_numpy(copy=True)
    equal[equal] = np.isin(digests[equal], others[np.isin(first_of_others, first[equal])])
    return equal


def find_near_copies(groups: Int[np.ndarray, " m"], others: Int[np.ndarray, " k"]) -> Bool[np.ndarray, " m"]:
    """Which cells share a group (0 or more) with one of the others."""
    return (groups >= 0) & np.isin(groups, others)


def count_near_copies(
    groups: Int[np.ndarray, " n"], parts: Mapping[str, Int[np.ndarray, " m"]]
) -> dict[str, int] | None:
    """Training and validation cells that share a group (0 or more) with a test cell; None if there are none."""
    tested = groups[parts["test"]]
    counts = {name: int(find_near_copies(groups[parts[name]], tested).sum()) for name in ("train", "validation")}
    return counts if any(counts.values()) else None


def find_dropped(
    near: Bool[np.ndarray, " m"],
    copies: Bool[np.ndarray, " m"],
    part: Int[np.ndarray, " m"],
    specimens: Specimens,
    near_copies: NearCopies,
) -> Bool[np.ndarray, " m"]:
    """Which cells of a part are dropped for near copies of test crops, beside the `copies` themselves.

    `part` are the cells' indices, `specimens` are of all cells. `drop_specimens` drops every cell of a specimen that
    has a copy or near copy of a test crop.
    """
    if near_copies == "keep":
        return np.zeros(len(near), bool)
    if near_copies == "drop_specimens":
        near = pd.Series(specimens[part]).isin(pd.unique(specimens[part[near | copies]])).to_numpy()
    return near & ~copies


def count_left_out(left_out: Mapping[str, Int[np.ndarray, " m"]], specimens: Specimens) -> dict[str, LeftOut] | None:
    """What was left out of each part, from the cells' indices; None if nothing was."""
    counts = {name: LeftOut(len(cells), len(pd.unique(specimens[cells]))) for name, cells in left_out.items()}
    return counts if any(each.cells for each in counts.values()) else None
