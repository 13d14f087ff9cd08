"""Metrics of stored predictions: pure functions of labels and probabilities."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

ECE_BINS = 15  # equal-width bins of the highest probability, as in Guo et al., arXiv 1706.04599


def measure(
    labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"], classes: Sequence[str]
) -> dict[str, Any]:
    """Accuracy, balanced accuracy, macro-F1, ECE, and precision, recall, F1 and n of each class.

    Means over classes take those that have a test cell; a class without one has n = 0 and null scores.
    """
    predicted = probabilities.argmax(axis=1)
    codes = np.arange(len(classes))
    precision, recall, f1, n = precision_recall_fscore_support(labels, predicted, labels=codes, zero_division=np.nan)
    present = n > 0
    f1 = np.where(present, np.nan_to_num(f1), np.nan)
    return {
        "n_test": len(labels),
        "accuracy": float((predicted == labels).mean()),
        "balanced_accuracy": float(recall[present].mean()),
        "macro_f1": float(f1[present].mean()),
        "ece": expected_calibration_error(labels, probabilities),
        "per_class": {
            name: {
                "n_test": int(n[i]),
                "precision": _plain(precision[i]),
                "recall": _plain(recall[i]) if present[i] else None,
                "f1": _plain(f1[i]),
            }
            for i, name in enumerate(classes)
        },
    }


def expected_calibration_error(
    labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"], bins: int = ECE_BINS
) -> float:
    """Mean gap between confidence and accuracy over equal-width bins, weighted by cells; in [0, 1]."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = probabilities.argmax(axis=1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(which, weights=confidence - correct, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def confusion(
    labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"]
) -> Int[np.ndarray, "classes classes"]:
    """Counts; rows are true classes, columns predicted ones."""
    codes = np.arange(probabilities.shape[1])
    return confusion_matrix(labels, probabilities.argmax(axis=1), labels=codes)


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
