"""Cells whose crop equals, or nearly equals, one of another specimen."""

import numpy as np
import pandas as pd
from jaxtyping import Int


def find_partners(cells: pd.DataFrame) -> Int[np.ndarray, " n"]:
    """For each row of a store's cells the position of a copy in another specimen, -1 where there is none.

    A copy has the same `digest`, or shares the `near_group`. One of another class is preferred: one of the two labels
    is then wrong.
    """
    groups = cells["near_group"].fillna(-1).to_numpy(np.int64)
    digests = cells.groupby("digest", sort=False).ngroup().to_numpy()
    specimens, classes = (cells[name].astype(str).to_numpy() for name in ("specimen", "class"))
    partner = np.full(len(cells), -1)
    for key in (groups, digests):
        for members in _several(key):
            for cell in members[partner[members] < 0]:
                elsewhere = members[specimens[members] != specimens[cell]]
                if len(elsewhere):
                    other_class = elsewhere[classes[elsewhere] != classes[cell]]
                    partner[cell] = (other_class if len(other_class) else elsewhere)[0]
    return partner


def _several(key: Int[np.ndarray, " n"]) -> list[Int[np.ndarray, " members"]]:
    """The positions of each key of 0 or more that several cells have."""
    order = np.argsort(key, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(key[order])) + 1)
    return [part for part in parts if len(part) > 1 and key[part[0]] >= 0]
