"""Scores of several seeds with their draws over specimens, and what is made of several such."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cellpatch import stats


@dataclass(frozen=True)
class Estimate:
    """A score of each seed and its draws over specimens, which are the same for all runs on the same cells."""

    values: Float[np.ndarray, " seeds"]
    draws: Float[np.ndarray, "draws seeds"]
    seeds: tuple[int, ...]

    @property
    def mean(self) -> float:
        return float(self.values.mean())

    def interval(self) -> tuple[float, float]:
        """95 % over specimens and seeds; over specimens alone if there is one seed."""
        return stats.interval_of_mean(self.values, self.draws.mean(axis=1))

    def summary(self) -> tuple[float, float, float]:
        """The mean and the ends of its interval."""
        return self.mean, *self.interval()

    def both_draws(self) -> Float[np.ndarray, " draws"]:
        """Draws of the mean over specimens and seeds, for what is no linear function of scores; somewhat too wide."""
        return self.draws.mean(axis=1) + stats.seed_noise(self.values, self.seeds, len(self.draws), stream=0)


def over_seeds(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean of what is known of each seed as a whole, and the ends of its interval over seeds alone, if several."""
    of_seeds = np.asarray(values, np.float64)
    mean, half = float(of_seeds.mean()), stats.half_over_seeds(of_seeds)
    return mean, mean - half, mean + half


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
