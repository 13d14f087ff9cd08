"""Learning curves: the groups of a model over flag_limit, and where two of them cross."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cellpatch.analysis.bootstrap import interval
from cellpatch.analysis.estimates import Estimate, difference
from cellpatch.analysis.groups import SeedGroup
from cellpatch.analysis.scaling import overtakes_at
from cellpatch.metrics.scores import Score, macro_f1
from cellpatch.optics.conditions import CLEAN
from cellpatch.runs.coordinates import CurveCoordinates


@dataclass(frozen=True)
class LearningCurve:
    """The groups that differ in their flag_limit alone, by rising flag_limit."""

    coordinates: CurveCoordinates
    groups: tuple[SeedGroup, ...]

    @property
    def limits(self) -> list[int]:
        return [group.coordinates.flag_limit for group in self.groups]

    def estimates(self, limits: Sequence[int], score: Score) -> list[Estimate]:
        """The score on clean cells at these limits."""
        return [self.groups[self.limits.index(limit)].estimate(CLEAN, score) for limit in limits]


@dataclass(frozen=True)
class Crossing:
    """The flag_limit from which on a curve stays ahead, and the ends of its 95 % interval.

    0 is ahead at each limit that both curves have, infinity is not ahead at the largest.
    """

    limit: float
    low: float
    high: float


def learning_curves(groups: Sequence[SeedGroup]) -> list[LearningCurve]:
    """Groups joined over flag_limit."""
    joined: dict[CurveCoordinates, list[SeedGroup]] = {}
    for group in groups:
        joined.setdefault(group.coordinates.curve, []).append(group)
    return [LearningCurve(coordinates, tuple(of_curve)) for coordinates, of_curve in joined.items()]


def split_by_adaptation(
    curves: Mapping[str, LearningCurve],
) -> tuple[dict[str, LearningCurve], dict[str, LearningCurve]]:
    """Curves of models trained from scratch, and of pretrained ones.

    Pretraining on the study's own crops, or after a teacher, counts as from scratch: the network has no published
    weights.
    """
    scratch = {label: curve for label, curve in curves.items() if curve.coordinates.own_weights}
    pretrained = {label: curve for label, curve in curves.items() if not curve.coordinates.own_weights}
    return scratch, pretrained


def side_title(curves: Iterable[CurveCoordinates]) -> str:
    """What the curves of one side of `split_by_adaptation` have in common, as a heading."""
    coordinates = list(curves)
    if all(at.from_scratch for at in coordinates):
        return "trained from scratch"
    return "without published weights" if all(at.own_weights for at in coordinates) else "pretrained"


def within_classes(curve: LearningCurve) -> LearningCurve:
    """The curve without limits that no class has the training cells for: annotations stop growing with the limit."""
    kept = [
        group
        for group in curve.groups
        if max(group.runs[0].record.counts["train"].values()) >= group.coordinates.flag_limit
    ]
    return LearningCurve(curve.coordinates, tuple(kept))


def shared_limits(first: LearningCurve, second: LearningCurve) -> list[int]:
    """The limits that both curves have, rising."""
    return sorted(set(first.limits) & set(second.limits))


def format_limit_range(limits: Sequence[int], low: float, high: float) -> str:
    """The interval of a crossing in words; `limits` are shared by both curves, beyond them nothing is known."""
    first = f"{limits[0]} or fewer" if low == 0 else f"{low:.0f}"
    return f"{first} to {f'more than {limits[-1]}' if np.isinf(high) else f'{high:.0f}'}"


def crossing_of_leader(first: LearningCurve, second: LearningCurve, score: Score) -> tuple[bool, Crossing]:
    """Whether `first` is ahead at the largest limit that both have, and from where on the curve ahead is so.

    Raises ValueError as `crossing_limit` does.
    """
    crossing = crossing_limit(first, second, score)
    return (True, crossing) if np.isfinite(crossing.limit) else (False, crossing_limit(second, first, score))


def crossing_limit(ahead: LearningCurve, behind: LearningCurve, score: Score) -> Crossing:
    """The flag_limit from which on `ahead` stays ahead of `behind`.

    Raises ValueError if they share no two limits or have different test cells.
    """
    shared = [limit for limit in ahead.limits if limit in behind.limits]
    if len(shared) < 2 or ahead.groups[0].runs[0].cells_key != behind.groups[0].runs[0].cells_key:
        raise ValueError(
            f"a crossing needs two limits on the same test cells, but got {ahead.coordinates}, {behind.coordinates}"
        )
    pairs = zip(ahead.estimates(shared, score), behind.estimates(shared, score), strict=True)
    return crossing_of(shared, [difference(a, b) for a, b in pairs])


def crossing_of(limits: Sequence[int], leads: Sequence[Estimate]) -> Crossing:
    """The limit from which on a lead stays above 0, from the lead at each limit, rising."""
    draws = np.stack([lead.bootstrap_samples() for lead in leads], axis=1)
    low, high = interval(overtakes_at(limits, draws))
    return Crossing(float(overtakes_at(limits, np.array([lead.mean for lead in leads]))), low, high)


def leader(curves: Mapping[str, LearningCurve], limit: int) -> tuple[str, Estimate]:
    """The label and macro-F1 of the best of these curves at a limit; raises ValueError if none was run there."""
    scores = {label: curve.estimates([limit], macro_f1)[0] for label, curve in curves.items() if limit in curve.limits}
    return max(scores.items(), key=lambda item: item[1].mean)


def best_of_both(curves: Mapping[str, LearningCurve]) -> dict[str, LearningCurve]:
    """The best curve from scratch and the best pretrained one, each by macro-F1 at its largest limit."""
    leaders = {}
    for candidates in split_by_adaptation(curves):
        if candidates:
            best = max(candidates, key=lambda label: _final_score(candidates[label]))
            leaders[best] = candidates[best]
    return leaders


def _final_score(curve: LearningCurve) -> float:
    return curve.estimates(curve.limits[-1:], macro_f1)[0].mean
