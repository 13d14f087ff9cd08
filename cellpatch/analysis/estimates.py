"""Scores of several seeds with their draws over specimens, and what is made of several such."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from jaxtyping import Float

from cellpatch.analysis import bootstrap


@dataclass(frozen=True)
class Estimate:
    """A score of each seed and its draws over specimens, which are the same for all runs on the same cells.

    `bounds` are what the score cannot pass: two seeds that differ much would else have an interval beyond them.
    """

    values: Float[np.ndarray, " seeds"]
    draws: Float[np.ndarray, "draws seeds"]
    seeds: tuple[int, ...]
    bounds: tuple[float, float] = (-np.inf, np.inf)

    @property
    def mean(self) -> float:
        return float(self.values.mean())

    def interval(self) -> tuple[float, float]:
        """95 % over specimens and seeds; over specimens alone if there is one seed."""
        low, high = np.clip(bootstrap.interval_of_mean(self.values, self.draws.mean(axis=1)), *self.bounds)
        return float(low), float(high)

    def summary(self) -> tuple[float, float, float]:
        """The mean and the ends of its interval."""
        return self.mean, *self.interval()

    def bootstrap_samples(self) -> Float[np.ndarray, " draws"]:
        """Draws of the mean over specimens and seeds, for what is no linear function of scores; somewhat too wide."""
        return self.draws.mean(axis=1) + bootstrap.seed_noise(self.values, self.seeds, len(self.draws), stream=0)


def mean_over_seeds(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean of a share that is known of each seed as a whole, and its interval over seeds, NaN of a single one."""
    of_seeds = np.asarray(values, np.float64)
    mean, half = float(of_seeds.mean()), bootstrap.student_half_width(of_seeds)
    low, high = np.clip([mean - half, mean + half], 0, 1)
    return mean, float(low), float(high)


def simultaneous_intervals(apart: Sequence[Estimate]) -> list[tuple[float, float]]:
    """Intervals of how far the best of some models is from each other one that hold, 95 %, for all their pairs at once.

    Of all pairs, as it was read off the same cells which is the best (Bonferroni). A variance over few seeds is badly
    known: each takes the larger of its own and the mean of all, with the degrees of freedom of all. Those of a single
    seed are over specimens alone.
    """
    level = 1 - 0.05 / comb(len(apart) + 1, 2)
    several = [each for each in apart if len(each.values) > 1]
    freedom = sum(len(each.values) - 1 for each in several)
    mean = float(np.mean([_of_seeds(each) for each in several])) if several else 0.0
    intervals = []
    for each in apart:
        draws = each.draws.mean(axis=1)
        if len(each.values) > 1 and mean > 0:
            half = bootstrap.satterthwaite_half_width(draws.var(ddof=1), max(_of_seeds(each), mean), freedom, level)
            intervals.append((each.mean - half, each.mean + half))
        else:
            intervals.append(bootstrap.interval(draws, level))
    return intervals


def _of_seeds(estimate: Estimate) -> float:
    """The variance of its mean over seeds."""
    return float(estimate.values.var(ddof=1) / len(estimate.values))


def combine(function: Callable[[np.ndarray], np.ndarray], estimates: Sequence[Estimate]) -> Estimate:
    """A function of several scores, along the last axis, seed by seed and draw by draw."""
    places = paired([estimate.seeds for estimate in estimates])
    values = np.stack([e.values[place] for e, place in zip(estimates, places, strict=True)], axis=-1)
    draws = np.stack([e.draws[:, place] for e, place in zip(estimates, places, strict=True)], axis=-1)
    return Estimate(function(values), function(draws), tuple(estimates[0].seeds[i] for i in places[0]))


def paired(seeds: Sequence[Sequence[int]]) -> list[list[int]]:
    """Places of the seeds that all have: equal seeds have annotated the same cells.

    If there are none, of as many as all have, in their order: the variances of independent seeds then add up as they
    should.
    """
    shared = sorted(set.intersection(*map(set, seeds)))
    if shared:
        return [[list(of_one).index(seed) for seed in shared] for of_one in seeds]
    return [list(range(min(map(len, seeds))))] * len(seeds)


def difference(one: Estimate, other: Estimate) -> Estimate:
    """One less the other, paired by seed and specimen."""
    return combine(lambda x: x[..., 0] - x[..., 1], [one, other])
