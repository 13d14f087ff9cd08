"""Agreement of annotators beyond chance: Cohen's kappa of two, Krippendorff's alpha of any number."""

import numpy as np
from jaxtyping import Float, Int, Num

Matrices = Num[np.ndarray, "*draws classes classes"]


def cohen_kappa(confusion: Matrices) -> Float[np.ndarray, "*draws"]:
    """Kappa of two annotators (Cohen, 1960), at most 1; NaN if both use a single class.

    Rows are the classes of the first annotator, columns those of the second, values cells.
    """
    counts = confusion.astype(np.float64)
    n = counts.sum(axis=(-2, -1))
    observed = np.trace(counts, axis1=-2, axis2=-1)
    expected = (counts.sum(axis=-1) * counts.sum(axis=-2)).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((n * observed - expected) / (n**2 - expected))


def coincidences(
    labels: Int[np.ndarray, "cells annotators"],
    classes: int,
    groups: Int[np.ndarray, " cells"],
) -> Float[np.ndarray, "groups classes classes"]:
    """Krippendorff's coincidence matrix, summed over the cells of each group (0 to the largest).

    `labels` are class indices, -1 where an annotator gave none. A cell of m labels counts each ordered pair of them as
    1 / (m - 1); one of a single label does not count.
    """
    votes = (labels[:, :, None] == np.arange(classes)).sum(axis=1)
    several = votes.sum(axis=1) > 1
    found = np.zeros((int(groups.max(initial=-1)) + 1, classes, classes))
    votes, weight = votes[several], 1 / (votes[several].sum(axis=1) - 1)
    for code in range(classes):
        pairs = votes * votes[:, [code]]
        pairs[:, code] -= votes[:, code]
        np.add.at(found[:, code], groups[several], pairs * weight[:, None])
    return found


def krippendorff_alpha(coincidence: Matrices) -> Float[np.ndarray, "*draws"]:
    """Alpha for classes without an order (Krippendorff, 2011), at most 1; NaN if all labels are of one class."""
    counts = coincidence.astype(np.float64)
    of_class = counts.sum(axis=-1)
    n = of_class.sum(axis=-1)
    disagreeing = n - np.trace(counts, axis1=-2, axis2=-1)
    by_chance = n**2 - (of_class**2).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(1 - (n - 1) * disagreeing / by_chance)
