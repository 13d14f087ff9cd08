"""Likely label errors by confident learning (Northcutt, Jiang and Chuang, 2021), as cleanlab implements it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclass(frozen=True)
class LabelErrors:
    """Of each cell: whether its label is likely wrong, the class suggested in its place, and the label's quality.

    `quality` is in [0, 1], lower is worse: cleanlab's confidence-weighted entropy.
    """

    likely: Bool[np.ndarray, " n"]
    suggested: Int[np.ndarray, " n"]
    quality: Float[np.ndarray, " n"]


def find_label_errors(labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"]) -> LabelErrors:
    """Label errors by out-of-sample `probabilities`: those of networks that were not trained on the cell.

    Likely errors are as many cells of each pair of classes as the confident joint counts. On flipped labels
    (experiments/studies/label_audit.py) this quality ranks better than the margin and the label's own probability.
    """
    from cleanlab.filter import find_label_issues  # a second to import, and only an audit asks
    from cleanlab.rank import get_label_quality_scores

    likely = find_label_issues(labels, probabilities, filter_by="prune_by_noise_rate", n_jobs=1)
    quality = get_label_quality_scores(labels, probabilities, method="confidence_weighted_entropy")
    others = probabilities.copy()
    np.put_along_axis(others, labels[:, None], -1.0, axis=1)
    return LabelErrors(likely, others.argmax(axis=1), quality)


def with_prior(
    probabilities: Float[np.ndarray, "n classes"],
    presumed: Float[np.ndarray, " classes"],
    frequencies: Float[np.ndarray, " classes"],
) -> Float[np.ndarray, "n classes"]:
    """Probabilities for cells of other class `frequencies` than those `presumed` (Saerens et al., 2002).

    Where no class with cells has a probability they stay.
    """
    ratio = np.divide(frequencies, presumed, out=np.ones_like(presumed), where=presumed > 0)
    adjusted = probabilities * ratio
    total = adjusted.sum(axis=1, keepdims=True)
    return np.where(total > 0, adjusted / np.where(total > 0, total, 1), probabilities)
