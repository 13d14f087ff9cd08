"""Scores from class counts, and confusion matrices by specimen.

Arrays of counts may have leading axes (runs, bootstrap draws); the functions keep them.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped

# Per class, along the second last axis: correctly predicted cells, true cells, predicted cells.
ClassCounts = Float[np.ndarray, "*draws 3 classes"] | Int[np.ndarray, "*draws 3 classes"]


# Test specimens in which a class must lie to count as widespread. The interval of a class's F1 is 0.58 wide if it lies
# in two of 57 specimens, 0.24 if in ten (docs/metrics.md).
WIDESPREAD = 10

Score = Callable[[ClassCounts], Float[np.ndarray, "*draws"]]  # accuracy, macro_f1, class_f1(code)


def confusions_by_specimen(
    labels: Int[np.ndarray, " n"],
    predicted: Int[np.ndarray, " n"],
    specimens: Shaped[np.ndarray, " n"] | pd.Series,
    n_classes: int,
) -> Int[np.ndarray, "specimens classes classes"]:
    """One confusion matrix per specimen, in the order of their sorted names; rows are true classes."""
    code, names = pd.factorize(specimens)  # codes of categories follow the order of their first cells, unsorted
    rank = np.argsort(np.argsort(np.asarray(names, str)))
    shape = (len(names), n_classes, n_classes)
    flat = np.ravel_multi_index((rank[code], labels, predicted), shape)
    return np.bincount(flat, minlength=np.prod(shape)).reshape(shape)


def class_counts(confusions: Shaped[np.ndarray, "*some classes classes"]) -> Shaped[np.ndarray, "*some 3 classes"]:
    """For each class of confusion matrices: correctly predicted cells, true cells, predicted cells."""
    correct = np.diagonal(confusions, axis1=-2, axis2=-1)
    return np.stack([correct, confusions.sum(axis=-1), confusions.sum(axis=-2)], axis=-2)


def accuracy(counts: ClassCounts) -> Float[np.ndarray, "*draws"]:
    """Share of correctly predicted cells, in [0, 1]."""
    correct, true, _ = np.moveaxis(counts.sum(axis=-1), -1, 0)
    return np.asarray(correct / true)


def macro_f1(counts: ClassCounts) -> Float[np.ndarray, "*draws"]:
    """Mean F1 over the classes that have a true cell, as in a run's record; in [0, 1]."""
    correct, true, predicted = np.moveaxis(counts, -2, 0)
    f1 = np.divide(2 * correct, true + predicted, out=np.zeros(correct.shape), where=true + predicted > 0)
    return np.asarray(np.where(true > 0, f1, 0).sum(axis=-1) / (true > 0).sum(axis=-1))


def widespread_classes(true: Shaped[np.ndarray, "specimens classes"], least: int = WIDESPREAD) -> tuple[int, ...]:
    """The classes, by index, that have a cell in at least `least` specimens."""
    return tuple(np.flatnonzero((true > 0).sum(axis=0) >= least).tolist())


@cache  # as `class_f1`
def macro_f1_of(codes: tuple[int, ...]) -> Score:
    """Mean F1 over those of the classes `codes` that have a true cell, in [0, 1]; NaN without a class.

    A cell of another class that was predicted as one of them counts as an error, as in the plain macro-F1.
    """

    def score(counts: ClassCounts) -> Float[np.ndarray, "*draws"]:
        if not codes:
            return np.full(counts.shape[:-2], np.nan)
        return macro_f1(counts[..., list(codes)])

    return score


@cache  # a cache: equal classes must give the same function, because the analysis caches results by score function
def class_f1(code: int) -> Score:
    """F1 of one class, in [0, 1]; 0 if it has neither true nor predicted cells."""

    def score(counts: ClassCounts) -> Float[np.ndarray, "*draws"]:
        correct, true, predicted = np.moveaxis(counts[..., code], -1, 0)
        total = true + predicted
        return np.asarray(np.divide(2.0 * correct, total, out=np.zeros(total.shape), where=total > 0))

    return score
