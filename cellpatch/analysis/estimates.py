"""Estimates: scores of several seeds with their bootstrap draws over specimens, and functions of several."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cellpatch.analysis import bootstrap


@dataclass(frozen=True)
class Estimate:
    """A score of each seed, its draws over specimens, and the score without each specimen in turn.

    Draws are the same for all runs on the same cells. Intervals are clipped to `bounds`, the range of the score: two
    seeds that differ much would exceed it.
    """

    values: Float[np.ndarray, " seeds"]
    draws: Float[np.ndarray, "draws seeds"]
    without: Float[np.ndarray, "specimens seeds"]
    seeds: tuple[int, ...]
    bounds: tuple[float, float] = (-np.inf, np.inf)

    @property
    def mean(self) -> float:
        return float(self.values.mean())

    def interval(self) -> tuple[float, float]:
        """The 95 % interval over specimens and seeds; over specimens alone if there is one seed."""
        ends = bootstrap.interval_of_mean(self.values, self.draws.mean(axis=1), self.without.mean(axis=1))
        low, high = np.clip(ends, *self.bounds)
        return float(low), float(high)

    def summary(self) -> tuple[float, float, float]:
        """The mean and the ends of its interval."""
        return self.mean, *self.interval()

    def specimen_noise(self) -> Float[np.ndarray, " draws"]:
        """Draws of the error of the mean over specimens, with the tails of Student's t; NaN for one specimen."""
        n, draws = len(self.without), self.draws.mean(axis=1)
        if n < 2:
            return np.full(len(draws), np.nan)
        wider = np.sqrt(n / (n - 1)) * bootstrap.heavy_tails(n - 1, len(draws), stream=0)
        return np.asarray((draws - draws.mean()) * wider)

    def bootstrap_samples(self) -> Float[np.ndarray, " draws"]:
        """Draws of the mean over specimens and seeds, for nonlinear functions of scores; somewhat too wide."""
        of_seeds = bootstrap.seed_noise(self.values, self.seeds, len(self.draws), stream=0)
        return self.mean + self.specimen_noise() + of_seeds


def mean_over_seeds(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean of a share in [0, 1] of each seed, and its 95 % interval over seeds; NaN ends for a single seed."""
    shares = np.asarray(values, np.float64)
    mean, half = float(shares.mean()), bootstrap.student_half_width(shares)
    low, high = np.clip([mean - half, mean + half], 0, 1)
    return mean, float(low), float(high)


def combine(function: Callable[[np.ndarray], np.ndarray], estimates: Sequence[Estimate]) -> Estimate:
    """A function of several scores, along the last axis, seed by seed, draw by draw and specimen by specimen."""
    indices = paired([estimate.seeds for estimate in estimates])
    chosen = list(zip(estimates, indices, strict=True))
    values = np.stack([each.values[index] for each, index in chosen], axis=-1)
    draws = np.stack([each.draws[:, index] for each, index in chosen], axis=-1)
    without = np.stack([each.without[:, index] for each, index in chosen], axis=-1)
    seeds = tuple(estimates[0].seeds[i] for i in indices[0])
    return Estimate(function(values), function(draws), function(without), seeds)


def paired(seeds: Sequence[Sequence[int]]) -> list[list[int]]:
    """Indices of the seeds that all have, by seed: equal seeds are trained on the same cells.

    If they share none, the first of each, as many as all have: the variances of independent seeds add up.
    """
    shared = sorted(set.intersection(*map(set, seeds)))
    if shared:
        return [[list(own).index(seed) for seed in shared] for own in seeds]
    return [list(range(min(map(len, seeds))))] * len(seeds)


def independent_difference(minuend: Estimate, subtrahend: Estimate) -> Estimate:
    """The first less the second, of the same networks on specimens of two cohorts: paired by seed alone.

    The variances over both cohorts' specimens add up; draws of one are in another order, so that they are independent.
    """
    indices = paired([minuend.seeds, subtrahend.seeds])
    both = list(zip((minuend, subtrahend), indices, strict=True))
    first, second = (each.values[index] for each, index in both)
    whole = bootstrap.small_sample_factor(sum(len(each.without) for each, _ in both))
    noise = []
    for each, index in both:
        draws = each.draws[:, index]
        own = bootstrap.small_sample_factor(len(each.without))  # the sum is multiplied by that of all specimens
        noise.append((draws - draws.mean(axis=0)) * np.sqrt(own / whole))
    shuffled = np.random.default_rng(0).permutation(len(noise[1]))
    return Estimate(
        first - second,
        first - second + noise[0] - noise[1][shuffled],
        np.concatenate([minuend.without[:, indices[0]] - second, first - subtrahend.without[:, indices[1]]]),
        tuple(minuend.seeds[i] for i in indices[0]),
    )


def difference(minuend: Estimate, subtrahend: Estimate) -> Estimate:
    """The first less the second, paired by seed and specimen."""
    return combine(lambda x: x[..., 0] - x[..., 1], [minuend, subtrahend])
