"""Bootstrap intervals of scores: pure functions of arrays.

Specimens are resampled, never cells: studies differ in the specimens that they look at. Scores need three counts of
each specimen and class: cells that are of it, cells that were predicted so, and cells where both agree. A bootstrap
draw is a weighted sum of these counts.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Int, Real
from scipy.special import stdtrit

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
    counts: Real[np.ndarray, "specimens ..."], weights: Int[np.ndarray, "draws specimens"]
) -> Float[np.ndarray, "draws ..."]:
    """The counts of each draw: sums over specimens, each times its weight in the draw."""
    # in float64, which is exact here too and 20 times as fast as integers
    return np.tensordot(weights.astype(np.float64), counts.astype(np.float64), axes=1)


def interval(values: Float[np.ndarray, " draws"], level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of bootstrap draws, which may be infinite; NaN if a draw is NaN."""
    method: Literal["linear", "nearest"] = "nearest" if np.isinf(values).any() else "linear"
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], method=method)
    return float(low), float(high)


def leave_one_out(counts: Int[np.ndarray, "*runs specimens 3 classes"]) -> ClassCounts:
    """The summed counts without each specimen in turn."""
    return counts.sum(axis=-3, keepdims=True) - counts


def specimen_variance(draws: Float[np.ndarray, " draws"], specimens: int) -> float:
    """The variance of a score over specimens, from its bootstrap draws.

    Draws of n specimens vary by (n - 1) / n of it, as a variance that is divided by n does. NaN for one specimen.
    """
    return float(draws.var(ddof=1)) * small_sample_factor(specimens)


def small_sample_factor(specimens: int) -> float:
    """What the variance of draws of n specimens is multiplied by: n / (n - 1), NaN for one specimen."""
    return specimens / (specimens - 1) if specimens > 1 else float("nan")


def specimen_dof(without: Float[np.ndarray, " specimens"]) -> float:
    """Degrees of freedom of `specimen_variance`, from 1 to n - 1; `without` is the score without each specimen in turn.

    A sample variance has the variance (kurtosis - (n - 3) / (n - 1)) / n of its square (O'Neill, Am. Stat. 68, 2014),
    chi square with f degrees of freedom 2 / f. Where few specimens decide the score, as with a class that lies in a
    few, the kurtosis is large and the degrees of freedom are few.
    """
    n = len(without)
    if n < 2:
        return float("nan")
    squares = np.square(without - without.mean())
    if not squares.any():
        return n - 1.0
    kurtosis = float(np.square(squares).mean() / squares.mean() ** 2)
    return float(np.clip(2 * n / (kurtosis - (n - 3) / (n - 1)), 1, n - 1))


def interval_of_mean(
    values: Float[np.ndarray, " seeds"],
    draws: Float[np.ndarray, " draws"],
    without: Float[np.ndarray, " specimens"],
    level: float = 0.95,
) -> tuple[float, float]:
    """The interval of the mean over the populations of seeds and specimens, from a value of each seed.

    `draws` are bootstrap draws over specimens of the mean of these seeds, `without` is it without each specimen in
    turn. The interval of a single seed is over specimens alone: its spread over seeds is unknown. NaN without draws.
    """
    n = len(values)
    parts = [(specimen_variance(draws, len(without)), specimen_dof(without))]
    if n > 1:
        parts.append((float(values.var(ddof=1)) / n, n - 1.0))
    half, mean = satterthwaite_half_width(parts, level), float(values.mean())
    return mean - half, mean + half


def satterthwaite_half_width(parts: Sequence[tuple[float, float]], level: float = 0.95) -> float:
    """Half the width of an interval from variances that add up, each with its degrees of freedom > 0.

    Satterthwaite, Biometrics Bulletin 2 (1946).
    """
    total = sum(variance for variance, _ in parts)
    if total == 0:
        return 0.0
    dof = total**2 / sum(variance**2 / dof for variance, dof in parts)
    return float(stdtrit(dof, (1 + level) / 2) * np.sqrt(total))


def student_half_width(values: Float[np.ndarray, " seeds"], level: float = 0.95) -> float:
    """Half the width of Student's interval of the mean over seeds, on these cells; NaN for a single seed."""
    if len(values) < 2:
        return float("nan")
    return float(stdtrit(len(values) - 1, (1 + level) / 2) * values.std(ddof=1) / np.sqrt(len(values)))


def heavy_tails(dof: float, draws: int, stream: int) -> Float[np.ndarray, " draws"]:
    """Factors that turn normal draws into Student's t; equal for equal `dof` and `stream`, so draws stay paired."""
    rng = np.random.default_rng([stream, 3, round(1000 * dof)])
    return np.asarray(np.sqrt(dof / rng.chisquare(dof, draws)))


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
