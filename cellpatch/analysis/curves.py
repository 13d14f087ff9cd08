"""Learning curves: the groups of a model over flag_limit, and where two of them cross."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellpatch.analysis.bootstrap import interval
from cellpatch.analysis.estimates import Estimate, difference
from cellpatch.analysis.groups import GROUP_KEYS, SeedGroup
from cellpatch.analysis.scaling import overtakes_at
from cellpatch.metrics.scores import Score, macro_f1
from cellpatch.optics.conditions import CLEAN


@dataclass(frozen=True)
class LearningCurve:
    """The groups of one model, adapt and input side on one data set, by rising flag_limit."""

    place: dict[str, Any]
    groups: tuple[SeedGroup, ...]

    @property
    def limits(self) -> list[int]:
        return [group.place["flag_limit"] for group in self.groups]

    def estimates(self, limits: Sequence[int], score: Score) -> list[Estimate]:
        """Of clean cells, at these limits."""
        return [self.groups[self.limits.index(limit)].estimate(CLEAN, score) for limit in limits]


def learning_curves(groups: Sequence[SeedGroup]) -> list[LearningCurve]:
    """Groups joined over flag_limit."""
    joined: dict[tuple[Any, ...], list[SeedGroup]] = {}
    for group in groups:
        joined.setdefault(tuple(group.place[axis] for axis in GROUP_KEYS[:-1]), []).append(group)
    return [LearningCurve(dict(zip(GROUP_KEYS[:-1], place, strict=True)), tuple(of)) for place, of in joined.items()]


def within_classes(curve: LearningCurve) -> LearningCurve:
    """Without limits that no class has the training cells for: there annotations do not grow as the limit does."""
    whole = [each for each in curve.groups if max(_training(each).values()) >= each.place["flag_limit"]]
    return LearningCurve(curve.place, tuple(whole))


def _training(group: SeedGroup) -> dict[str, int]:
    counts: dict[str, int] = group.runs[0].record["counts"]["train"]
    return counts


def format_limit_range(limits: Sequence[int], low: float, high: float) -> str:
    """The ends of a crossing's interval between limits that both have: beyond them nothing is known."""
    first = f"{limits[0]} or fewer" if low == 0 else f"{low:.0f}"
    return f"{first} to {f'more than {limits[-1]}' if np.isinf(high) else f'{high:.0f}'}"


def crossing_of_leader(
    one: LearningCurve, other: LearningCurve, score: Score
) -> tuple[bool, tuple[float, float, float]]:
    """Whether `one` is ahead at the largest limit that both have, and the crossing from which on the one ahead is so.

    Raises ValueError as `crossing_limit` does.
    """
    found = crossing_limit(one, other, score)
    return (True, found) if np.isfinite(found[0]) else (False, crossing_limit(other, one, score))


def crossing_limit(small: LearningCurve, large: LearningCurve, score: Score) -> tuple[float, float, float]:
    """The flag_limit from which on `small` stays ahead of `large`, and its 95 % interval.

    0 is ahead at each limit that both have, infinity is not ahead at the largest. Raises ValueError if they share no
    two limits or other test cells.
    """
    shared = [limit for limit in small.limits if limit in large.limits]
    if len(shared) < 2 or small.groups[0].runs[0].cells != large.groups[0].runs[0].cells:
        raise ValueError(f"a crossing needs two limits on the same test cells, but got {small.place}, {large.place}")
    pairs = zip(small.estimates(shared, score), large.estimates(shared, score), strict=True)
    ahead = [difference(one, other) for one, other in pairs]
    means = np.array([apart.mean for apart in ahead])
    draws = np.stack([apart.bootstrap_samples() for apart in ahead], axis=1)
    low, high = interval(overtakes_at(shared, draws))
    return float(overtakes_at(shared, means)), low, high


def best_of_both(found: dict[str, LearningCurve]) -> dict[str, LearningCurve]:
    """The best curve from scratch and the best pretrained one, each by macro-F1 at its largest limit."""
    leaders = {}
    for scratch in (True, False):
        kind = {label: curve for label, curve in found.items() if (curve.place["adapt"] == "scratch") == scratch}
        if kind:
            top = max(kind, key=lambda label: kind[label].estimates(kind[label].limits[-1:], macro_f1)[0].mean)
            leaders[top] = kind[top]
    return leaders
