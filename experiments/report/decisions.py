"""What verdicts at neighbouring limits have in common: which model to use where, and where the lead changes."""

from collections.abc import Sequence
from dataclasses import dataclass

from verdicts import OWN, PRETRAINED, Verdict

from cellpatch.analysis.curves import Crossing, crossing_of
from cellpatch.analysis.estimates import Estimate, difference


@dataclass(frozen=True)
class Segment:
    """Neighbouring limits with the same decision, and the model to use there."""

    verdicts: tuple[Verdict, ...]

    @property
    def limits(self) -> list[int]:
        return [verdict.limit for verdict in self.verdicts]

    @property
    def kind(self) -> str | None:
        """How the best models came by their weights; None if that is open."""
        return self.verdicts[0].decided_kind

    @property
    def members(self) -> list[str]:
        """The models that may be the best at each limit, by falling score at the largest."""
        return [label for label in self.verdicts[-1].members if all(label in each.members for each in self.verdicts)]

    @property
    def useful(self) -> list[str]:
        """The members that beat the baselines at each limit, by falling score at the largest."""
        return [label for label in self.members if all(label in each.useful for each in self.verdicts)]

    @property
    def states_costs(self) -> bool:
        """Whether all useful models state what they cost."""
        return set(self.useful) <= set(self.verdicts[-1].costs.by_label)

    @property
    def cheapest(self) -> list[str]:
        """The useful models of the lowest cost, or all if some state none, by falling score at the largest limit."""
        costs = self.verdicts[-1].costs.by_label
        lowest = min((costs[label] for label in self.useful), default=None) if self.states_costs else None
        return [label for label in self.useful if lowest is None or costs[label] == lowest]

    @property
    def choice(self) -> str | None:
        """The best of the cheapest at the largest limit; None without any."""
        return self.cheapest[0] if self.cheapest else None

    @property
    def is_alone(self) -> bool:
        """Whether the choice is significantly better than every other model."""
        return all(verdict.members == [self.choice] for verdict in self.verdicts)


def segments(found: Sequence[Verdict]) -> list[Segment]:
    """Neighbouring limits joined while they decide the same and share a choice, or have none for the same reason."""
    parts: list[Segment] = []
    for verdict in found:
        alone = Segment((verdict,))
        joined = Segment((*parts[-1].verdicts, verdict)) if parts else alone
        same = bool(parts) and _decision(parts[-1].verdicts[-1]) == _decision(verdict)
        if same and (alone.choice is None or joined.choice is not None):
            parts[-1] = joined
        else:
            parts.append(alone)
    return parts


def decisive(found: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts of limits where enough of the models were run: the others decide nothing."""
    most = max(len(verdict.scores) for verdict in found)
    return [verdict for verdict in found if len(verdict.scores) > max(1, most // 2)]


def choices_by_limit(found: Sequence[Verdict]) -> dict[int, str]:
    """The model to use at each limit, as its segment has it; a limit that decides nothing is left out."""
    return {
        verdict.limit: segment.choice
        for segment in segments(decisive(found))
        for verdict in segment.verdicts
        if segment.choice is not None and not verdict.why_open
    }


def _decision(verdict: Verdict) -> tuple[object, ...]:
    """Which kind is best, and which model, if one is; if none is to be used, why."""
    if not verdict.useful:
        return (verdict.why_open, *(baseline.label for baseline in verdict.unbeaten))
    return verdict.decided_kind, verdict.members[0] if len(verdict.members) == 1 else None


def change_of_lead(found: Sequence[Verdict]) -> tuple[str, Crossing] | None:
    """The kind that leads at the largest limit, and from where on its best model stays ahead of the other kind's.

    None unless both kinds were run at two limits and each is the decided one at some limit.
    """
    both = [verdict for verdict in found if len(verdict.kinds) == 2]
    decided = [verdict.decided_kind for verdict in both if verdict.decided_kind]
    if len(set(decided)) < 2:
        return None
    last = decided[-1]
    leads = [difference(*(_leader_of(verdict, kind) for kind in (last, _other(last)))) for verdict in both]
    return last, crossing_of([verdict.limit for verdict in both], leads)


def _other(kind: str) -> str:
    return PRETRAINED if kind == OWN else OWN


def _leader_of(verdict: Verdict, kind: str) -> Estimate:
    """The best score of a kind."""
    return max(
        (score for label, score in verdict.scores.items() if verdict.kind(label) == kind), key=lambda score: score.mean
    )
