"""Scores of groups under blur: slopes, areas, and up to which sigma a lead lasts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, product

import numpy as np
import pandas as pd
from jaxtyping import Float

from cellpatch.analysis.bootstrap import interval
from cellpatch.analysis.estimates import Estimate, combine, difference
from cellpatch.analysis.groups import SCORES, SeedGroup, at_one_limit, blur_curve, limit_of, redrawn
from cellpatch.analysis.labels import by_label, row_of
from cellpatch.metrics import degradation
from cellpatch.metrics.scores import Score

_LEAD_KEYS = ["flag_limit", "kind", "score", "ahead", "behind"]


@dataclass(frozen=True)
class Lead:
    """Who leads whom on clean cells, and the sigma at which the lead ends with its 95 % interval."""

    ahead: str
    behind: str
    ends: float
    low: float
    high: float


def blur_kinds(group: SeedGroup) -> list[str]:
    """Kinds of blur that a group was evaluated under."""
    return sorted({condition.kind for condition in group.conditions() if condition.is_blur})


def summarise_blur(groups: Sequence[SeedGroup]) -> pd.DataFrame:
    """One row per group, kind of blur, score and fact (`what`), with the 95 % interval `low` to `high`.

    Facts are the score at each sigma, its slope and area over log2(1 + sigma), and the slope over the clean score
    (`relative slope`). `redrawn` is the share of draws that lacked a class.
    """
    rows = []
    for group in groups:
        about = row_of(group, groups)
        about |= {"seeds": len(group.seeds), "n_test": group.n_test}
        about |= {"specimens": group.n_specimens, "redrawn": redrawn(group)}
        for kind in blur_kinds(group):
            about["sigmas"] = " ".join(f"{c.sigma:g}" for c in group.conditions() if c.kind == kind)
            for name, score in SCORES.items():
                for what, estimate in _facts(group, kind, score):
                    low, high = estimate.interval()
                    row = {"kind": kind, "score": name, "what": what}
                    rows.append(about | row | {"value": estimate.mean, "low": low, "high": high})
    return pd.DataFrame(rows)


def _facts(group: SeedGroup, kind: str, score: Score) -> Iterator[tuple[str, Estimate]]:
    sigmas, estimates = blur_curve(group, kind, score)
    for sigma, estimate in zip(sigmas, estimates, strict=True):
        yield f"sigma {sigma:g}", estimate
    yield "slope", combine(lambda scores: degradation.slope(sigmas, scores), estimates)
    yield "relative slope", combine(lambda scores: _relative_slope(sigmas, scores), estimates)
    yield "area", combine(lambda scores: degradation.area(sigmas, scores), estimates)


def _relative_slope(sigmas: Sequence[float], scores: Float[np.ndarray, "*draws k"]) -> Float[np.ndarray, "*draws"]:
    slope, clean = degradation.slope(sigmas, scores), scores[..., 0]
    return np.divide(slope, clean, out=np.full(slope.shape, np.nan), where=clean > 0)


def blur_leads(blurred: Sequence[SeedGroup], groups: Sequence[SeedGroup]) -> pd.DataFrame:
    """For each two models of one limit, the sigma at which the leader on clean cells stops leading (`ends`).

    `groups` are all of the data set: they decide labels. `ends` is infinite for a lead that holds at the largest
    sigma that both models have.
    """
    rows = []
    chosen = by_label(at_one_limit(blurred), groups)
    kinds = {label: blur_kinds(group) for label, group in chosen.items()}
    for kind, (name, score) in product(sorted(set().union(*kinds.values())), SCORES.items()):
        curves = {  # of one kind and score at once: of thirty seeds and nine sigmas, a curve takes 4 MB
            label: dict(zip(*blur_curve(group, kind, score), strict=True))
            for label, group in chosen.items()
            if kind in kinds[label]
        }
        for pair in combinations(curves, 2):
            lead = _lead({label: curves[label] for label in pair})
            if lead is not None:
                rows.append({"flag_limit": limit_of(chosen), "kind": kind, "score": name} | asdict(lead))
    columns = [*_LEAD_KEYS, "ends", "low", "high"]
    return pd.DataFrame(rows, columns=columns).sort_values(_LEAD_KEYS, ignore_index=True)


def _lead(curves: Mapping[str, Mapping[float, Estimate]]) -> Lead | None:
    """Of the scores of two models by sigma; None if the two share a single sigma."""
    ahead, behind = sorted(curves, key=lambda label: -curves[label][0.0].mean)
    sigmas = sorted(set(curves[ahead]) & set(curves[behind]))
    if len(sigmas) < 2:
        return None
    leads = [difference(curves[ahead][sigma], curves[behind][sigma]) for sigma in sigmas]
    draws = np.stack([lead.bootstrap_samples() for lead in leads], axis=1)
    ends = degradation.crossover_sigma(sigmas, np.array([lead.mean for lead in leads]))
    low, high = interval(degradation.crossover_sigma(sigmas, draws))
    return Lead(ahead, behind, float(ends), low, high)
