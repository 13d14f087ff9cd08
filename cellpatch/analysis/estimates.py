"""Estimates: scores of several seeds with their bootstrap draws over specimens, and functions of several."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from jaxtyping import Float

from cellpatch.analysis import bootstrap


@dataclass(frozen=True)
class Estimate:
    """A score of each seed and its draws over specimens, which are the same for all runs on the same cells.

    Intervals are clipped to `bounds`, the range of the score: two seeds that differ much would exceed it.
    """

    values: Float[np.ndarray, " seeds"]
    draws: Float[np.ndarray, "draws seeds"]
    seeds: tuple[int, ...]
    bounds: tuple[float, float] = (-np.inf, np.inf)

    @property
    def mean(self) -> float:
        return float(self.values.mean())

    def interval(self) -> tuple[float, float]:
        """The 95 % interval over specimens and seeds; over specimens alone if there is one seed."""
        low, high = np.clip(bootstrap.interval_of_mean(self.values, self.draws.mean(axis=1)), *self.bounds)
        return float(low), float(high)

    def summary(self) -> tuple[float, float, float]:
        """The mean and the ends of its interval."""
        return self.mean, *self.interval()

    def bootstrap_samples(self) -> Float[np.ndarray, " draws"]:
        """Draws of the mean over specimens and seeds, for nonlinear functions of scores; somewhat too wide."""
        return self.draws.mean(axis=1) + bootstrap.seed_noise(self.values, self.seeds, len(self.draws), stream=0)


def mean_over_seeds(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean of a share in [0, 1] of each seed, and its 95 % interval over seeds; NaN ends for a single seed."""
    shares = np.asarray(values, np.float64)
    mean, half = float(shares.mean()), bootstrap.student_half_width(shares)
    low, high = np.clip([mean - half, mean + half], 0, 1)
    return mean, float(low), float(high)


def simultaneous_intervals(differences: Sequence[Estimate]) -> list[tuple[float, float]]:
    """95 % intervals of the differences of the best model to each of the others, for all pairs of models at once.

    Corrected for all pairs (Bonferroni), as the best was chosen on the same cells. A variance over few seeds is
    uncertain: each interval takes the larger of its own and the mean of all, with the degrees of freedom of all.
    Intervals of a single seed are over specimens alone.
    """
    level = 1 - 0.05 / comb(len(differences) + 1, 2)
    several = [each for each in differences if len(each.values) > 1]
    seed_dof = sum(len(each.values) - 1 for each in several)
    mean_variance = float(np.mean([_seed_variance(each) for each in several])) if several else 0.0
    intervals = []
    for each in differences:
        draws = each.draws.mean(axis=1)
        if len(each.values) > 1 and mean_variance > 0:
            seed_variance = max(_seed_variance(each), mean_variance)
            half = bootstrap.satterthwaite_half_width(draws.var(ddof=1), seed_variance, seed_dof, level)
            intervals.append((each.mean - half, each.mean + half))
        else:
            intervals.append(bootstrap.interval(draws, level))
    return intervals


def _seed_variance(estimate: Estimate) -> float:
    """The variance of its mean over seeds."""
    return float(estimate.values.var(ddof=1) / len(estimate.values))


def combine(function: Callable[[np.ndarray], np.ndarray], estimates: Sequence[Estimate]) -> Estimate:
    """A function of several scores, along the last axis, seed by seed and draw by draw."""
    indices = paired([estimate.seeds for estimate in estimates])
    values = np.stack([e.values[index] for e, index in zip(estimates, indices, strict=True)], axis=-1)
    draws = np.stack([e.draws[:, index] for e, index in zip(estimates, indices, strict=True)], axis=-1)
    return Estimate(function(values), function(draws), tuple(estimates[0].seeds[i] for i in indices[0]))


def paired(seeds: Sequence[Sequence[int]]) -> list[list[int]]:
    """Indices of the seeds that all have, by seed: equal seeds are trained on the same cells.

    If they share none, the first of each, as many as all have: the variances of independent seeds add up.
    """
    shared = sorted(set.intersection(*map(set, seeds)))
    if shared:
        return [[list(own).index(seed) for seed in shared] for own in seeds]
    return [list(range(min(map(len, seeds))))] * len(seeds)


def difference(minuend: Estimate, subtrahend: Estimate) -> Estimate:
    """The first less the second, paired by seed and specimen."""
    return combine(lambda x: x[..., 0] - x[..., 1], [minuend, subtrahend])
