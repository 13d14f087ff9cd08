"""Prediction sets: classes of a cell that contain the true one with a stated probability (conformal prediction).

Calibrated by specimen. MAPIE (BSD-3) calibrates by cell, as if cells of one specimen were independent; a test compares
both where each specimen has one cell.
"""

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped


def nonconformity(
    labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"]
) -> Float[np.ndarray, " n"]:
    """One less the probability of the true class: it gives the smallest sets (Sadinle et al., arXiv 1609.00451)."""
    return 1 - probabilities[np.arange(len(labels)), labels].astype(np.float64)


def quantile_by_cell(scores: Float[np.ndarray, " n"], level: float) -> float:
    """The threshold that new scores keep with probability `level` if all cells are exchangeable; may be infinite.

    Vovk et al. (2005); MAPIE's. Cells of one specimen are alike, so that new specimens keep it less often.
    """
    return quantile_by_specimen(scores, np.arange(len(scores)), level)


def quantile_by_specimen(
    scores: Float[np.ndarray, " n"],
    specimens: Shaped[np.ndarray, " n"],
    level: float,
    weights: Float[np.ndarray, " n"] | None = None,
) -> float:
    """The threshold that the score of a cell of a new specimen keeps with probability `level`; may be infinite.

    Each of K specimens has the weight 1 / (K + 1), shared by its cells, and infinity has one too (hierarchical
    conformal prediction: Lee, Barber and Willett, arXiv 2306.06342; Dunn, Wasserman and Ramdas, arXiv 1809.07441).
    Infinite if there are fewer than `specimens_needed`. `weights` state of how many cells each one is a sample.
    """
    _, code = np.unique(specimens, return_inverse=True)
    each = np.ones(len(scores)) if weights is None else weights
    of_specimen = np.bincount(code, weights=each)
    mass = each / of_specimen[code] / (len(of_specimen) + 1)
    order = np.argsort(scores, kind="stable")
    enough = np.flatnonzero(mass[order].cumsum() >= level - 1e-12)
    return float(scores[order[enough[0]]]) if len(enough) else float("inf")


def specimens_needed(level: float) -> int:
    """The fewest calibration specimens whose threshold is finite: K / (K + 1) >= level."""
    return int(np.ceil(level / (1 - level) - 1e-9))


def thresholds_by_class(
    scores: Float[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"],
    specimens: Shaped[np.ndarray, " n"],
    n_classes: int,
    level: float,
) -> Float[np.ndarray, " classes"]:
    """`quantile_by_specimen` of the cells of each class alone: each class keeps the level, however frequent it is.

    Infinite for a class in too few specimens, which is then in every set (Vovk, arXiv 1209.2673).
    """
    found = np.full(n_classes, np.inf)
    for code in np.unique(labels):
        of_class = labels == code
        found[code] = quantile_by_specimen(scores[of_class], specimens[of_class], level)
    return found


def prediction_sets(
    probabilities: Float[np.ndarray, "n classes"], threshold: float | Float[np.ndarray, " classes"]
) -> Bool[np.ndarray, "n classes"]:
    """The classes whose nonconformity is at most the threshold, or that of the class; a set may be empty."""
    return np.asarray(1 - probabilities.astype(np.float64) <= threshold)
