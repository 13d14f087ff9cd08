"""Which models may be the best: those that no other one is significantly ahead of.

A confidence set for the best (Mogstad et al., arXiv 2003.08259), by studentised largest leads and steps down (Romano
and Wolf, Econometrica 73, 2005): in at most 5 % of studies a model is left out that is as good as the best of the
population, however many models there are and whichever the cells chose.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cellpatch.analysis.bootstrap import heavy_tails, specimen_variance
from cellpatch.analysis.estimates import Estimate, difference

_Leads = Float[np.ndarray, "models models"]


@dataclass(frozen=True)
class BestSet:
    """Models of one comparison, by falling mean.

    `members` may be the best, the leader among them. `at_least` is how far each model is behind another one, at
    least: above 0 for those that are not members; NaN where no spread over seeds is known. `ahead` are pairs of which
    the first is significantly better than the second.
    """

    members: tuple[str, ...]
    at_least: dict[str, float]
    ahead: frozenset[tuple[str, str]]

    @property
    def leader(self) -> str:
        return self.members[0]


def best_set(scores: Mapping[str, Estimate], level: float = 0.95) -> BestSet:
    """The set of one comparison, as `best_sets` of several."""
    return best_sets([scores], level)[0]


def best_sets(comparisons: Sequence[Mapping[str, Estimate]], level: float = 0.95) -> list[BestSet]:
    """The set of models of each comparison that are best, or as good: all sets are right in `level` of studies.

    A model is left out if another one's lead over it, in standard errors, is beyond what the largest of all leads
    reaches by chance; then leads over those left out no longer count, and so on. A lead's variance over seeds is the
    larger of its own and the median of all leads: three seeds alone are too few to know it. Without two seeds of any
    model nothing is left out.
    """
    ordered = [sorted(scores, key=lambda name: -scores[name].mean) for scores in comparisons]
    leads = [_leads([scores[name] for name in names]) for scores, names in zip(comparisons, ordered, strict=True)]
    by_chance = [_largest_by_chance(each, stream) for stream, each in enumerate(leads)]
    known = [i for i, each in enumerate(leads) if each.dof and len(each.mean) > 1]
    first = _critical(by_chance, {i: np.ones(len(ordered[i]), dtype=bool) for i in known}, level)
    left = {i: np.ones(len(ordered[i]), dtype=bool) for i in known}
    while True:
        critical = _critical(by_chance, left, level)
        still = {i: left[i] & ~(leads[i].bounds(critical).max(axis=0) > 0) for i in known}
        if not any(each.any() for each in still.values()) or all((still[i] == left[i]).all() for i in known):
            break
        left = still
    sets = []
    for i, (names, each) in enumerate(zip(ordered, leads, strict=True)):
        if i not in known:
            sets.append(BestSet(tuple(names), dict.fromkeys(names, np.nan), frozenset()))
            continue
        at_least = dict(zip(names, each.bounds(critical).max(axis=0).tolist(), strict=True))
        members = tuple(name for name in names if not at_least[name] > 0)
        pairs = [(names[a], names[b]) for a, b in np.argwhere(each.bounds(first) > 0)]
        sets.append(BestSet(members, at_least, frozenset(pairs)))
    return sets


def _critical(by_chance: Sequence[Float[np.ndarray, "draws _"]], left: Mapping[int, np.ndarray], level: float) -> float:
    """The level of the largest lead by chance over the models that are left."""
    largest = [by_chance[i][:, kept].max(axis=1) for i, kept in left.items() if kept.any()]
    return float(np.quantile(np.max(largest, axis=0), level)) if largest else np.inf


@dataclass(frozen=True)
class _AllLeads:
    """Leads of each model (row) over each other one (column)."""

    mean: _Leads
    noise: Float[np.ndarray, "draws models models"]  # of specimens
    specimens: _Leads  # variances
    seeds: _Leads
    dof: int  # of the variances over seeds

    @property
    def errors(self) -> _Leads:
        """Standard errors; 1 for leads of 0 without any: of a model over itself, and where runs are equal."""
        errors = np.sqrt(self.specimens + self.seeds)
        return np.where(errors == 0, 1.0, errors)

    def bounds(self, critical: float) -> _Leads:
        """Lower bounds of the leads."""
        return self.mean - critical * self.errors


def _leads(scores: list[Estimate]) -> _AllLeads:
    n = len(scores)
    mean, of_specimens, of_seeds, shared = (np.zeros((n, n)) for _ in range(4))
    noise = np.zeros((len(scores[0].draws), n, n))
    for i in range(n):
        for j in range(i):
            lead = difference(scores[i], scores[j])
            mean[i, j] = lead.mean
            noise[:, i, j] = lead.specimen_noise()
            of_specimens[i, j] = specimen_variance(lead.draws.mean(axis=1), len(lead.without))
            shared[i, j] = len(lead.seeds)
            of_seeds[i, j] = lead.values.var(ddof=1) if len(lead.seeds) > 1 else np.nan
    known = of_seeds[shared > 1]
    usual = float(np.median(known)) if known.size else np.nan
    below = shared > 0
    of_seeds[below] = np.fmax(of_seeds[below], usual) / shared[below]
    dof = sum(len(score.seeds) - 1 for score in scores)
    return _AllLeads(
        mean=mean - mean.T,
        noise=noise - noise.transpose(0, 2, 1),
        specimens=of_specimens + of_specimens.T,
        seeds=of_seeds + of_seeds.T,
        dof=dof,
    )


def _largest_by_chance(leads: _AllLeads, stream: int) -> Float[np.ndarray, "draws models"]:
    """Draws of the largest lead over each model, in standard errors, if all were equal."""
    draws, n, _ = leads.noise.shape
    if not leads.dof:
        return np.zeros((draws, n))
    tails = heavy_tails(leads.dof, draws, stream=1)[:, None]
    own = np.random.default_rng(stream).standard_normal((draws, n)) * tails / np.sqrt(2)
    largest = np.empty((draws, n))
    for j in range(n):
        of_seeds = np.sqrt(leads.seeds[:, j]) * (own - own[:, j, None])
        largest[:, j] = ((leads.noise[:, :, j] + of_seeds) / leads.errors[:, j]).max(axis=1)
    return largest
