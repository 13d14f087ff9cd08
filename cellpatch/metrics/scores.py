"""Scores of class counts, and counts by specimen."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped

ClassCounts = Float[np.ndarray, "*draws 3 classes"] | Int[np.ndarray, "*draws 3 classes"]  # right, true, named


Score = Callable[[ClassCounts], Float[np.ndarray, "*draws"]]  # accuracy, macro_f1


def confusions_by_specimen(
    labels: Int[np.ndarray, " n"],
    predicted: Int[np.ndarray, " n"],
    specimens: Shaped[np.ndarray, " n"] | pd.Series,
    n_classes: int,
) -> Int[np.ndarray, "specimens classes classes"]:
    """One confusion matrix a specimen, in the order of their sorted names; rows are true classes."""
    code, names = pd.factorize(specimens)  # of categories in the order of their first cells, not sorted
    place = np.argsort(np.argsort(np.asarray(names, str)))
    shape = (len(names), n_classes, n_classes)
    flat = np.ravel_multi_index((place[code], labels, predicted), shape)
    return np.bincount(flat, minlength=np.prod(shape)).reshape(shape)


def class_counts(confusions: Shaped[np.ndarray, "*some classes classes"]) -> Shaped[np.ndarray, "*some 3 classes"]:
    """Of confusion matrices the cells of each class that were rightly named so, that are so, and that were named so."""
    right = np.diagonal(confusions, axis1=-2, axis2=-1)
    return np.stack([right, confusions.sum(axis=-1), confusions.sum(axis=-2)], axis=-2)


def accuracy(counts: ClassCounts) -> Float[np.ndarray, "*draws"]:
    """Share of the cells that were rightly named."""
    right, true, _ = np.moveaxis(counts.sum(axis=-1), -1, 0)
    return np.asarray(right / true)


def macro_f1(counts: ClassCounts) -> Float[np.ndarray, "*draws"]:
    """Mean F1 over the classes that have a true cell, as in a run's record."""
    right, true, named = np.moveaxis(counts, -2, 0)
    f1 = np.divide(2 * right, true + named, out=np.zeros(right.shape), where=true + named > 0)
    return np.asarray(np.where(true > 0, f1, 0).sum(axis=-1) / (true > 0).sum(axis=-1))


@cache
def class_f1(code: int) -> Score:
    """F1 of one class: 0 where it is neither there nor named."""

    def score(counts: ClassCounts) -> Float[np.ndarray, "*draws"]:
        right, true, named = np.moveaxis(counts[..., code], -1, 0)
        both = true + named
        return np.asarray(np.divide(2.0 * right, both, out=np.zeros(both.shape), where=both > 0))

    return score
