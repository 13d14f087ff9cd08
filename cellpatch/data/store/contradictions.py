"""Crops that are equal to the last pixel: the same cell twice, or one cell in two classes."""

import numpy as np
import pyarrow as pa
from jaxtyping import Bool

from cellpatch.data.store.intake import Contradictions, Intake
from cellpatch.runtime.error_collector import ErrorCollector


def find_contradictions(cells: pa.Table, contradictions: Contradictions, intake: Intake) -> Bool[np.ndarray, " n"]:
    """Which cells have a crop that another class has too, to the last pixel; counts these and other copies.

    Raises ValueError if there are some and contradictions are rejected.
    """
    digests = cells["digest"].to_numpy().astype("S16")
    labels = cells["class"].combine_chunks().dictionary_decode().to_numpy(zero_copy_only=False)
    _, first, group = np.unique(digests, return_index=True, return_inverse=True)
    differs = np.zeros(len(first), bool)
    differs[group[labels[first][group] != labels]] = True
    contradicting = differs[group]
    copies = len(digests) - len(first)
    if copies > contradicting.sum() - differs.sum():
        intake.doubtful["cells whose crop another of their class has too, to the last pixel"] += int(
            copies - (contradicting.sum() - differs.sum())
        )
    reason = "cells whose crop another class has too, to the last pixel"
    if contradicting.any() and contradictions == "refuse":
        problems = ErrorCollector()
        sources = cells["source"].to_numpy(zero_copy_only=False)
        for index in np.flatnonzero(contradicting):
            other = sources[next(i for i in np.flatnonzero(group == group[index]) if labels[i] != labels[index])]
            problems.add(
                f"{sources[index]}: has the crop of {other} to the last pixel, but class {labels[index]!r}; "
                "correct one, or set data.contradictions=drop or keep"
            )
        problems.raise_if_any()
    elif contradicting.any():
        counts = intake.left_out if contradictions == "drop" else intake.doubtful
        counts[reason] += int(contradicting.sum())
    return contradicting
