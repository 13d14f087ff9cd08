"""Are probabilities right? Calibration metrics of stored predictions, and temperature scaling.

They are ours, because stored scores must stay equal to 1e-6 on hard inputs; docstrings state where libraries differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

ECE_BINS = 15  # equal-width bins of the highest probability, as in Guo et al., arXiv 1706.04599
_MIN_PROBABILITY = np.finfo(np.float32).tiny  # stands in for a probability of zero in a logarithm


@dataclass(frozen=True)
class ReliabilityBin:
    """Cells of one bin of confidence: how many, their mean confidence, the share whose predicted class is right."""

    n: int
    confidence: float
    accuracy: float


def negative_log_likelihood(labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"]) -> float:
    """Mean of -log p of the true class, in nats; p is at least the smallest normal 32-bit float (1.2e-38).

    scikit-learn's `log_loss` clips at the resolution of the type instead, 1.2e-7 in 32 bits: an impossible true class
    costs 16 nats there and 87 here, and probabilities of 1e-30 are all equal. It also warns if rows do not sum to 1.
    """
    of_true_class = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.maximum(of_true_class, _MIN_PROBABILITY)).mean())


def brier(labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"]) -> float:
    """Mean squared distance of the probabilities to the one-hot label, summed over classes; in [0, 2] (Brier, 1950).

    scikit-learn's `brier_score_loss` gives equal numbers. It warns if 32-bit rows do not sum exactly to 1, and raises
    for a probability that rounding lifted above 1.
    """
    one_hot = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities.astype(np.float64) - one_hot) ** 2).sum(axis=1).mean())


def fit_temperature(labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"]) -> float:
    """The temperature in [0.05, 20] with the lowest negative log likelihood (Guo et al., arXiv 1706.04599)."""
    from scipy.optimize import minimize_scalar  # takes half a second to import, and reading a config does not need it

    minimum = minimize_scalar(
        lambda log_t: negative_log_likelihood(labels, scale(probabilities, float(np.exp(log_t)))),
        bounds=(np.log(0.05), np.log(20)),
        method="bounded",
    )
    return float(np.exp(minimum.x))


def scale(probabilities: Float[np.ndarray, "n classes"], temperature: float) -> Float[np.ndarray, "n classes"]:
    """Probabilities whose logits are divided by a temperature > 0: p^(1/t), normalised to a sum of 1."""
    logits = np.log(np.maximum(probabilities.astype(np.float64), _MIN_PROBABILITY)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def expected_calibration_error(labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"]) -> float:
    """Mean gap between confidence and accuracy over equal-width bins, weighted by cells; in [0, 1].

    Formula: Guo et al., arXiv 1706.04599. torchmetrics' `multiclass_calibration_error` differs in three ways. It sums
    in 32 bits. It puts a confidence on a bin's border into the bin that rounding in 32 bits gives. It takes all
    probabilities for logits if rounding lifted one of them above 1.
    """
    confidence, correct = _confidence(labels, probabilities)
    gaps = np.bincount(_bin_of(confidence), weights=confidence - correct, minlength=ECE_BINS)
    return float(np.abs(gaps).sum() / len(labels))


def reliability(labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"]) -> list[ReliabilityBin]:
    """The bins of `expected_calibration_error` that have cells, by rising confidence."""
    confidence, correct = _confidence(labels, probabilities)
    return _bins(confidence, correct.astype(np.float64), np.ones(len(labels)))


def pool_bins(bins: Sequence[ReliabilityBin]) -> list[ReliabilityBin]:
    """Bins of several runs with the cells of each bin together, by rising confidence."""
    confidence, accuracy = (np.array([getattr(each, name) for each in bins]) for name in ("confidence", "accuracy"))
    return _bins(confidence, accuracy, np.array([each.n for each in bins], float))


def bins_gap(bins: Sequence[ReliabilityBin]) -> float:
    """The expected calibration error of cells that are known by their bins."""
    return sum(each.n * abs(each.confidence - each.accuracy) for each in bins) / sum(each.n for each in bins)


def _bins(
    confidence: Float[np.ndarray, " k"], accuracy: Float[np.ndarray, " k"], n: Float[np.ndarray, " k"]
) -> list[ReliabilityBin]:
    """Means over what falls into one bin, weighted by cells; bins without cells are left out."""
    number = _bin_of(confidence)
    cells = np.bincount(number, weights=n, minlength=ECE_BINS)
    sums = [np.bincount(number, weights=n * values, minlength=ECE_BINS) for values in (confidence, accuracy)]
    return [
        ReliabilityBin(int(cells[i]), float(sums[0][i] / cells[i]), float(sums[1][i] / cells[i]))
        for i in np.flatnonzero(cells)
    ]


def _confidence(
    labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"]
) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Each cell's highest probability, and whether that class is right."""
    return probabilities.max(axis=1).astype(np.float64), probabilities.argmax(axis=1) == labels


def _bin_of(confidence: Float[np.ndarray, " k"]) -> Int[np.ndarray, " k"]:
    return np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)
