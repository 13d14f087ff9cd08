"""Scores with their intervals from stored predictions: pure functions of arrays.

What varies from study to study is which specimens were looked at, so specimens are resampled and never cells. How
many cells of each class a specimen has, are named so, and rightly so, is all that these scores need of it: a resample
is a weighted sum of such tallies.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped
from scipy.special import ndtr, ndtri, stdtrit

Tallies = Float[np.ndarray, "*draws 3 classes"] | Int[np.ndarray, "*draws 3 classes"]  # right, true, named
Score = Callable[[Tallies], Float[np.ndarray, "*draws"]]  # accuracy, macro_f1


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


def tallies(confusions: Shaped[np.ndarray, "*some classes classes"]) -> Shaped[np.ndarray, "*some 3 classes"]:
    """Of confusion matrices the cells of each class that were rightly named so, that are so, and that were named so."""
    right = np.diagonal(confusions, axis1=-2, axis2=-1)
    return np.stack([right, confusions.sum(axis=-1), confusions.sum(axis=-2)], axis=-2)


def accuracy(counts: Tallies) -> Float[np.ndarray, "*draws"]:
    """Share of the cells that were rightly named."""
    right, true, _ = np.moveaxis(counts.sum(axis=-1), -1, 0)
    return np.asarray(right / true)


def macro_f1(counts: Tallies) -> Float[np.ndarray, "*draws"]:
    """Mean F1 over the classes that have a true cell, as in a run's record."""
    right, true, named = np.moveaxis(counts, -2, 0)
    f1 = np.divide(2 * right, true + named, out=np.zeros(right.shape), where=true + named > 0)
    return np.asarray(np.where(true > 0, f1, 0).sum(axis=-1) / (true > 0).sum(axis=-1))


def resamples(
    true: Int[np.ndarray, "specimens classes"], draws: int, seed: int
) -> tuple[Int[np.ndarray, "draws specimens"], float]:
    """How often each of n specimens is in each bootstrap draw of n, and the share of draws that were drawn again.

    `true` is how many cells of each class each has. A draw without a cell of a class that the whole has is drawn
    again: a mean over fewer classes is another score. Raises ValueError if that would be more than 99 of 100 draws:
    such few specimens say nothing of others.
    """
    n = len(true)
    has = true > 0
    has = has[:, has.any(axis=0)]
    rng = np.random.default_rng(seed)
    found: list[Int[np.ndarray, "some specimens"]] = []
    kept = tried = 0
    while kept < draws:
        if tried >= 100 * draws:
            alone = int((has.sum(axis=0) == 1).sum())
            raise ValueError(f"classes lie in too few of {n} specimens to resample them: {alone} in a single one")
        times = rng.multinomial(n, np.full(n, 1 / n), size=draws)
        whole = ((times > 0).astype(np.int64) @ has.astype(np.int64)).min(axis=1) > 0
        last = np.flatnonzero(whole)[draws - kept - 1] + 1 if whole.sum() >= draws - kept else draws
        found.append(times[:last][whole[:last]])
        kept, tried = kept + len(found[-1]), tried + int(last)
    return np.concatenate(found), 1 - draws / tried


def resample(
    counts: Int[np.ndarray, "specimens ..."], times: Int[np.ndarray, "draws specimens"]
) -> Float[np.ndarray, "draws ..."]:
    """The counts of each draw."""
    # exact as well, and 20 times as fast as of integers
    return np.tensordot(times.astype(np.float64), counts.astype(np.float64), axes=1)


def interval(values: Float[np.ndarray, " draws"], level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of bootstrap draws, which may be infinite; NaN if one of them is."""
    method: Literal["linear", "nearest"] = "nearest" if np.isinf(values).any() else "linear"
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], method=method)
    return float(low), float(high)


def bca_interval(
    value: float, draws: Float[np.ndarray, " draws"], without: Float[np.ndarray, " specimens"], level: float = 0.95
) -> tuple[float, float]:
    """The bias-corrected and accelerated interval (Efron, 1987) of a value with bootstrap draws.

    `without` is the value without each specimen in turn. Where the draws do not vary it is the value itself.
    """
    below = np.mean(draws < value) + np.mean(draws == value) / 2
    if np.ptp(draws) == 0 or not 0 < below < 1:
        return float(draws.min()), float(draws.max())
    apart = without.mean() - without
    spread = float((apart**2).sum() ** 1.5)
    acceleration = float((apart**3).sum()) / (6 * spread) if spread > 0 else 0.0
    z = ndtri(below) + ndtri([(1 - level) / 2, (1 + level) / 2])
    low, high = np.quantile(draws, ndtr(ndtri(below) + z / (1 - acceleration * z)))
    return float(low), float(high)


def leave_one_out(counts: Int[np.ndarray, "*runs specimens 3 classes"]) -> Tallies:
    """The summed tallies without each specimen in turn."""
    return counts.sum(axis=-3, keepdims=True) - counts


def interval_of_mean(
    values: Float[np.ndarray, " seeds"], draws: Float[np.ndarray, " draws"], level: float = 0.95
) -> tuple[float, float]:
    """The interval of the mean over all seeds and specimens there are, of a value of each seed.

    `draws` are bootstrap draws over specimens of the mean of these seeds. Of a single seed the interval is the
    percentile one over specimens: of its spread over seeds nothing is known.
    """
    n = len(values)
    if n < 2:
        return interval(draws, level)
    of_specimens, of_seeds = draws.var(ddof=1), values.var(ddof=1) / n
    if of_seeds == 0:
        return interval(draws, level)
    half = half_of_both(of_specimens, of_seeds, n - 1, level)
    return float(values.mean() - half), float(values.mean() + half)


def half_of_both(of_specimens: float, of_seeds: float, freedom: int, level: float = 0.95) -> float:
    """Half of an interval of two variances that add up; `freedom` is of that over seeds, > 0 (Satterthwaite)."""
    whole = of_specimens + of_seeds
    return float(stdtrit(freedom * (whole / of_seeds) ** 2, (1 + level) / 2) * np.sqrt(whole))


def half_over_seeds(values: Float[np.ndarray, " seeds"], level: float = 0.95) -> float:
    """Half of Student's interval of the mean over all seeds there are, on these cells; NaN of a single seed."""
    if len(values) < 2:
        return float("nan")
    return float(stdtrit(len(values) - 1, (1 + level) / 2) * values.std(ddof=1) / np.sqrt(len(values)))


def seed_noise(
    values: Float[np.ndarray, "n_seeds ..."], seeds: Sequence[int], draws: int, stream: int
) -> Float[np.ndarray, "n_draws ..."]:
    """Draws of how far the mean over seeds may be from the mean over all seeds there are: Student's t, joint over k.

    Added to draws over specimens it makes draws over both. Calls with the same `stream` draw the same numbers for the
    same seed, so that differences between runs of equal seeds stay paired. Zeros for a single seed: of its spread
    nothing is known.
    """
    n = len(seeds)
    if n < 2:
        return np.zeros((draws, *values.shape[1:]))
    weights = np.stack([np.random.default_rng([stream, 1, seed]).standard_normal(draws) for seed in seeds], axis=1)
    chi2 = np.random.default_rng([stream, 2, n]).chisquare(n - 1, draws)
    weights /= np.sqrt(n * chi2)[:, None]  # sqrt(n (n - 1)) of the mean's variance, sqrt(chi2 / (n - 1)) of Student's t
    return np.tensordot(weights, values - values.mean(axis=0), axes=1)


def permutation_p(
    one: Int[np.ndarray, "seeds specimens 3 classes"],
    other: Int[np.ndarray, "..."],
    score: Score,
    draws: int,
    seed: int,
) -> float:
    """Two-sided p of no difference between two models on the same cells: their specimens are swapped at random.

    A specimen is swapped in all seeds at once; compared are the means over seeds. The observed assignment counts as
    one of the draws, so p is at least 1 / (draws + 1) (Phipson & Smyth, 2010).
    """
    if one.shape != other.shape:
        shapes = f"{one.shape} and {other.shape}"
        raise ValueError(f"both models must have the same seeds, specimens and classes, but got {shapes}")
    swaps = np.random.default_rng(seed).integers(0, 2, (draws, one.shape[1]))
    swaps = np.concatenate([np.zeros_like(swaps[:1]), swaps])  # the first is what was observed
    apart = np.zeros(draws + 1)
    for first in range(0, draws + 1, 500):  # what stays in the processor's cache
        part = slice(first, first + 500)
        for a, b in zip(one, other, strict=True):
            moved = resample(b - a, swaps[part])
            apart[part] += score(a.sum(axis=0) + moved) - score(b.sum(axis=0) - moved)
    return float(np.mean(np.abs(apart) >= np.abs(apart[0]) - 1e-12))


def holm(p: Float[np.ndarray, " tests"]) -> Float[np.ndarray, " tests"]:
    """p values corrected for their number: a false alarm among all of them stays as rare as the level (Holm, 1979)."""
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    out = np.empty(len(p))
    out[order] = np.minimum(stepped, 1)
    return out


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


def lead_ends(sigmas: Sequence[float], ahead: Float[np.ndarray, "*draws k"]) -> Float[np.ndarray, "*draws"]:
    """The sigma at which a lead (score of A less that of B) first falls to zero, linear in log2(1 + sigma).

    0 if there is no lead on clean cells, infinity if it holds at the largest sigma.
    """
    x = blur_axis(sigmas)
    lost = ahead <= 0
    right = np.maximum(lost.argmax(axis=-1), 1)  # the first sigma at which the lead is lost
    before, after = (np.take_along_axis(ahead, place[..., None], axis=-1)[..., 0] for place in (right - 1, right))
    share = np.divide(before, before - after, out=np.zeros(before.shape), where=before > after)
    ends = 2 ** (x[right - 1] + share.clip(0, 1) * (x[right] - x[right - 1])) - 1
    ends = np.where(lost[..., 0], 0.0, np.where(lost.any(axis=-1), ends, np.inf))
    return np.where(np.isnan(ahead).any(axis=-1), np.nan, ends)


@cache
def class_f1(code: int) -> Score:
    """F1 of one class: 0 where it is neither there nor named."""

    def score(counts: Tallies) -> Float[np.ndarray, "*draws"]:
        right, true, named = np.moveaxis(counts[..., code], -1, 0)
        both = true + named
        return np.asarray(np.divide(2.0 * right, both, out=np.zeros(both.shape), where=both > 0))

    return score
