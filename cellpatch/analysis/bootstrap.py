"""Bootstrap intervals of scores: pure functions of arrays.

Specimens are resampled, never cells: studies differ in the specimens that they look at. Scores need three counts of
each specimen and class: cells that are of it, cells that were predicted so, and cells where both agree. A bootstrap
draw is a weighted sum of these counts.
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

    `true` counts the cells of each specimen and class. A draw that lacks a class of the whole is drawn again: a mean
    over fewer classes is another score. Raises ValueError if more than 99 of 100 draws lack one: so few specimens give
    no information about others.
    """
    n = len(true)
    has = true > 0
    has = has[:, has.any(axis=0)]
    rng = np.random.default_rng(seed)
    parts: list[Int[np.ndarray, "some specimens"]] = []
    kept = tried = 0
    while kept < draws:
        if tried >= 100 * draws:
            alone = int((has.sum(axis=0) == 1).sum())
            raise ValueError(f"classes lie in too few of {n} specimens to resample them: {alone} in a single one")
        times = rng.multinomial(n, np.full(n, 1 / n), size=draws)
        complete = ((times > 0).astype(np.int64) @ has.astype(np.int64)).min(axis=1) > 0
        last = np.flatnonzero(complete)[draws - kept - 1] + 1 if complete.sum() >= draws - kept else draws
        parts.append(times[:last][complete[:last]])
        kept, tried = kept + len(parts[-1]), tried + int(last)
    return np.concatenate(parts), 1 - draws / tried


def weighted_counts(
    counts: Int[np.ndarray, "specimens ..."], weights: Int[np.ndarray, "draws specimens"]
) -> Float[np.ndarray, "draws ..."]:
    """The counts of each draw: sums over specimens, each times its weight in the draw."""
    # in float64, which is exact here too and 20 times as fast as integers
    return np.tensordot(weights.astype(np.float64), counts.astype(np.float64), axes=1)


def interval(values: Float[np.ndarray, " draws"], level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of bootstrap draws, which may be infinite; NaN if a draw is NaN."""
    method: Literal["linear", "nearest"] = "nearest" if np.isinf(values).any() else "linear"
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], method=method)
    return float(low), float(high)


def bca_interval(
    value: float, draws: Float[np.ndarray, " draws"], without: Float[np.ndarray, " specimens"], level: float = 0.95
) -> tuple[float, float]:
    """The bias-corrected and accelerated interval (Efron, 1987) of a value with bootstrap draws.

    `without` is the value without each specimen in turn. Draws that do not vary give an interval of no width.
    """
    below = np.mean(draws < value) + np.mean(draws == value) / 2
    if np.ptp(draws) == 0 or not 0 < below < 1:
        return float(draws.min()), float(draws.max())
    deviations = without.mean() - without
    spread = float((deviations**2).sum() ** 1.5)
    acceleration = float((deviations**3).sum()) / (6 * spread) if spread > 0 else 0.0
    z = ndtri(below) + ndtri([(1 - level) / 2, (1 + level) / 2])
    low, high = np.quantile(draws, ndtr(ndtri(below) + z / (1 - acceleration * z)))
    return float(low), float(high)


def leave_one_out(counts: Int[np.ndarray, "*runs specimens 3 classes"]) -> ClassCounts:
    """The summed counts without each specimen in turn."""
    return counts.sum(axis=-3, keepdims=True) - counts


def interval_of_mean(
    values: Float[np.ndarray, " seeds"], draws: Float[np.ndarray, " draws"], level: float = 0.95
) -> tuple[float, float]:
    """The interval of the mean over the populations of seeds and specimens, from a value of each seed.

    `draws` are bootstrap draws over specimens of the mean of these seeds. A single seed gives the percentile interval
    over specimens: its spread over seeds is unknown.
    """
    n = len(values)
    if n < 2:
        return interval(draws, level)
    specimen_variance, seed_variance = draws.var(ddof=1), values.var(ddof=1) / n
    if seed_variance == 0:
        return interval(draws, level)
    half = satterthwaite_half_width(specimen_variance, seed_variance, n - 1, level)
    return float(values.mean() - half), float(values.mean() + half)


def satterthwaite_half_width(
    specimen_variance: float, seed_variance: float, seed_dof: int, level: float = 0.95
) -> float:
    """Half the width of an interval from two variances that add up (Satterthwaite, 1946).

    `seed_dof` are the degrees of freedom of the variance over seeds, > 0; the variance over specimens has many.
    """
    total = specimen_variance + seed_variance
    return float(stdtrit(seed_dof * (total / seed_variance) ** 2, (1 + level) / 2) * np.sqrt(total))


def student_half_width(values: Float[np.ndarray, " seeds"], level: float = 0.95) -> float:
    """Half the width of Student's interval of the mean over seeds, on these cells; NaN for a single seed."""
    if len(values) < 2:
        return float("nan")
    return float(stdtrit(len(values) - 1, (1 + level) / 2) * values.std(ddof=1) / np.sqrt(len(values)))


def seed_noise(
    values: Float[np.ndarray, "n_seeds ..."], seeds: Sequence[int], draws: int, stream: int
) -> Float[np.ndarray, "n_draws ..."]:
    """Draws of the error of the mean over seeds: Student's t, joint over the trailing axes.

    Added to draws over specimens, they give draws over both. Calls with the same `stream` draw the same numbers for
    the same seed, so that differences between runs of equal seeds stay paired. Zeros for a single seed: its spread is
    unknown.
    """
    n = len(seeds)
    if n < 2:
        return np.zeros((draws, *values.shape[1:]))
    weights = np.stack([np.random.default_rng([stream, 1, seed]).standard_normal(draws) for seed in seeds], axis=1)
    chi2 = np.random.default_rng([stream, 2, n]).chisquare(n - 1, draws)
    weights /= np.sqrt(n * chi2)[:, None]  # sqrt(n (n - 1)) of the mean's variance, sqrt(chi2 / (n - 1)) of Student's t
    return np.tensordot(weights, values - values.mean(axis=0), axes=1)
