"""Scores with their intervals from stored predictions: pure functions of arrays.

What varies from study to study is which specimens were looked at, so specimens are resampled and never cells. How
many cells of each class a specimen has, are named so, and rightly so, is all that these scores need of it: a resample
is a weighted sum of such tallies.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtr, ndtri, stdtrit

from cellpatch.metrics.scores import ClassCounts


def bootstrap_weights(
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


def weighted_counts(
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


def leave_one_out(counts: Int[np.ndarray, "*runs specimens 3 classes"]) -> ClassCounts:
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
    half = satterthwaite_half_width(of_specimens, of_seeds, n - 1, level)
    return float(values.mean() - half), float(values.mean() + half)


def satterthwaite_half_width(of_specimens: float, of_seeds: float, freedom: int, level: float = 0.95) -> float:
    """Half of an interval of two variances that add up; `freedom` is of that over seeds, > 0 (Satterthwaite)."""
    whole = of_specimens + of_seeds
    return float(stdtrit(freedom * (whole / of_seeds) ** 2, (1 + level) / 2) * np.sqrt(whole))


def student_half_width(values: Float[np.ndarray, " seeds"], level: float = 0.95) -> float:
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
