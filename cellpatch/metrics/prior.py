"""The class frequencies that a network's or a probe's probabilities presume."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class ClassPrior:
    """The class frequencies that predicted probabilities presume, and those of the training cells.

    Both are in the order of the record's classes. `name` is training or uniform, between for what lies between the two,
    or beyond where rare classes are presumed to be the frequent ones.
    Probabilities are calibrated, if at all, for cells of the presumed frequencies.
    """

    name: Literal["training", "uniform", "between", "beyond"]
    presumed: list[float]
    training: list[float]


def class_prior(counts: Sequence[int], adjusted_by: float) -> ClassPrior:
    """The prior of a classifier that learnt `counts` cells of each class, without the factor training^adjusted_by.

    Bayes: p(class | cell) grows with prior(class). At 0 the training cells' frequencies stay, at 1 all are equal.
    """
    training = np.array(counts) / np.sum(counts)
    presumed = training ** (1 - adjusted_by)
    name: Literal["training", "uniform", "between", "beyond"] = "between" if adjusted_by < 1 else "beyond"
    if adjusted_by in (0, 1):
        name = "training" if adjusted_by == 0 else "uniform"
    return ClassPrior(name, (presumed / presumed.sum()).tolist(), training.tolist())
