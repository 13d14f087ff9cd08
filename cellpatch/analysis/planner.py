"""How many annotations a target takes, from the scores at several numbers of annotations."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from cellpatch.analysis.bootstrap import interval
from cellpatch.analysis.estimates import Estimate
from cellpatch.analysis.scaling import MAX_EXTRAPOLATION, fit_power_law, limit_for, power_law, why_no_power_law

Interval = tuple[float, float, float]  # a value and its ends


@dataclass(frozen=True, eq=False)
class Planner:
    """Scores at rising `limits`, interpolated between them and extrapolated by a power law where the data support one.

    A limit is a flag_limit, or a number of labels.
    """

    limits: Sequence[int]
    estimates: Sequence[Estimate]

    @cached_property
    def means(self) -> Float[np.ndarray, " k"]:
        return np.array([estimate.mean for estimate in self.estimates])

    @cached_property
    def draws(self) -> Float[np.ndarray, "draws k"]:
        return np.stack([estimate.bootstrap_samples() for estimate in self.estimates], axis=1)

    @cached_property
    def refusal(self) -> str | None:
        """Why there is no power law beyond the largest limit; None if there is one."""
        return why_no_power_law(self.limits, self.draws)

    @cached_property
    def laws(self) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "draws 3"]] | None:
        """The law of the means, and that of each draw; None if there is none."""
        if self.refusal:
            return None
        return fit_power_law(self.limits, self.means), fit_power_law(self.limits, self.draws)

    @property
    def best(self) -> float:
        """The score that the law approaches; the highest mean without a law."""
        return float(self.means.max() if self.laws is None else 1 - self.laws[0][0])

    def needed(self, target: float) -> Interval:
        """The limit that a target takes, with its interval; infinity where it is not known to be reached.

        Below the first limit nothing is known.
        """
        law, laws = (None, None) if self.laws is None else self.laws
        value = float(limit_for(self.limits, self.means, target, law))
        low, high = interval(limit_for(self.limits, self.draws, target, laws))
        first = self.limits[0]
        return max(value, first), max(low, first), high

    def gain(self, more: int) -> Interval | None:
        """What `more` annotations after the last limit add to the score by the law; None where no law is trusted."""
        last = self.limits[-1]
        if self.laws is None or last + more > MAX_EXTRAPOLATION * last:
            return None
        ends = [power_law(law, self.limits[0], [last, last + more]) for law in self.laws]
        of_mean, of_draws = (scores[..., 1] - scores[..., 0] for scores in ends)
        return float(of_mean), *interval(of_draws)
