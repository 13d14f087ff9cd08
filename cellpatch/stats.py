"""Scores with their intervals from stored predictions: pure functions of arrays.

What varies from study to study is which specimens were looked at, so specimens are resampled and never cells. A
specimen's confusion matrix is all that these scores need of it: a resample is a weighted sum of matrices.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Shaped

Counts = Float[np.ndarray, "*draws classes classes"]


def confusions_by_specimen(
    labels: Int[np.ndarray, " n"],
    predicted: Int[np.ndarray, " n"],
    specimens: Shaped[np.ndarray, " n"],
    n_classes: int,
) -> Int[np.ndarray, "specimens classes classes"]:
    """One confusion matrix a specimen, in the order of their sorted names; rows are true classes."""
    names, group = np.unique(specimens, return_inverse=True)
    out = np.zeros((len(names), n_classes, n_classes), np.int64)
    np.add.at(out, (group, labels, predicted), 1)
    return out


def accuracy(counts: Counts) -> Float[np.ndarray, "*draws"]:
    """Share of the cells on the diagonal."""
    return np.asarray(np.trace(counts, axis1=-2, axis2=-1) / counts.sum(axis=(-2, -1)))


def macro_f1(counts: Counts) -> Float[np.ndarray, "*draws"]:
    """Mean F1 over the classes that have a true cell, as in a run's record."""
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    true, named = counts.sum(axis=-1), counts.sum(axis=-2)
    f1 = np.divide(2 * right, true + named, out=np.zeros(right.shape), where=true + named > 0)
    return np.asarray(np.where(true > 0, f1, 0).sum(axis=-1) / (true > 0).sum(axis=-1))


def resamples(
    counts: Int[np.ndarray, "specimens classes classes"], draws: int, seed: int
) -> tuple[Int[np.ndarray, "draws specimens"], float]:
    """How often each of n specimens is in each bootstrap draw of n, and the share of draws that were drawn again.

    A draw without a cell of a class that the whole has is drawn again: a mean over fewer classes is another score.
    """
    n = len(counts)
    has = counts.sum(axis=2) > 0
    needed = has.any(axis=0)
    rng = np.random.default_rng(seed)
    found: list[Int[np.ndarray, "some specimens"]] = []
    kept = tried = 0
    while kept < draws:
        times = rng.multinomial(n, np.full(n, 1 / n), size=draws)
        whole = ((times > 0).astype(np.int64) @ has.astype(np.int64) > 0)[:, needed].all(axis=1)
        last = np.flatnonzero(whole)[draws - kept - 1] + 1 if whole.sum() >= draws - kept else draws
        found.append(times[:last][whole[:last]])
        kept, tried = kept + len(found[-1]), tried + int(last)
    return np.concatenate(found), 1 - draws / tried


def resample(counts: Int[np.ndarray, "specimens classes classes"], times: Int[np.ndarray, "draws specimens"]) -> Counts:
    """The confusion matrix of each draw."""
    return np.tensordot(times, counts, axes=1).astype(np.float64)


def interval(values: Float[np.ndarray, " draws"], level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of bootstrap draws; NaN if one of them is."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def blur_axis(sigmas: Sequence[float]) -> Float[np.ndarray, " k"]:
    """log2(1 + sigma): the axis on which the study measures degradation."""
    return np.log2(1 + np.asarray(sigmas, np.float64))


def slope(sigmas: Sequence[float], scores: Float[np.ndarray, "*draws k"]) -> Float[np.ndarray, "*draws"]:
    """Least-squares slope of scores against log2(1 + sigma), per doubling: the study's degradation rate."""
    x = blur_axis(sigmas)
    if len(np.unique(x)) < 2:
        raise ValueError(f"a slope needs two sigmas at least, but got {list(sigmas)}")
    x = x - x.mean()
    return np.asarray(scores @ x / (x @ x))


def area(sigmas: Sequence[float], scores: Float[np.ndarray, "*draws k"]) -> Float[np.ndarray, "*draws"]:
    """Mean score over the range of log2(1 + sigma), by trapezoids; sigmas must rise."""
    x = blur_axis(sigmas)
    if len(x) < 2 or (np.diff(x) <= 0).any():
        raise ValueError(f"an area needs two rising sigmas at least, but got {list(sigmas)}")
    return np.asarray(np.trapezoid(scores, x, axis=-1) / (x[-1] - x[0]))


def lead_ends(sigmas: Sequence[float], ahead: Float[np.ndarray, " k"]) -> float:
    """The sigma at which a lead (score of A less that of B) first falls to zero, linear in log2(1 + sigma).

    0 if there is no lead on clean cells, infinity if it holds at the largest sigma.
    """
    x = blur_axis(sigmas)
    if ahead[0] <= 0:
        return 0.0
    lost = np.flatnonzero(ahead <= 0)
    if not len(lost):
        return float("inf")
    i = lost[0]
    place = x[i - 1] + (x[i] - x[i - 1]) * ahead[i - 1] / (ahead[i - 1] - ahead[i])
    return float(2**place - 1)
