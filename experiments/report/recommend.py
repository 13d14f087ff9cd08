"""What a reader takes away: which model from how many annotations on, in sentences that carry their evidence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from caveats import caveats

from cellpatch.analysis.comparison import compare_with_best
from cellpatch.analysis.curves import (
    LearningCurve,
    crossing_limit,
    format_limit_range,
    leader,
    learning_curves,
    shared_limits,
    split_by_adaptation,
)
from cellpatch.analysis.estimates import Estimate, difference
from cellpatch.analysis.groups import SeedGroup, at_one_limit, limit_of, under_blur
from cellpatch.analysis.labels import by_label
from cellpatch.analysis.latency_cards import milliseconds
from cellpatch.figures.tables import format_ci
from cellpatch.metrics.scores import macro_f1
from cellpatch.optics.conditions import CLEAN, Condition


@dataclass(frozen=True)
class Candidate:
    """A curve that is compared, and its label."""

    label: str
    curve: LearningCurve


@dataclass(frozen=True)
class Pair:
    """The two curves that the recommendation is about."""

    scratch: Candidate
    pretrained: Candidate

    @property
    def limits(self) -> list[int]:
        """The limits that both have, rising."""
        return shared_limits(self.scratch.curve, self.pretrained.curve)

    def leads(self) -> dict[int, Estimate]:
        """Macro-F1 of the model from scratch less that of the pretrained one, by limit."""
        scratch, pretrained = (each.curve.estimates(self.limits, macro_f1) for each in (self.scratch, self.pretrained))
        return {limit: difference(a, b) for limit, a, b in zip(self.limits, scratch, pretrained, strict=True)}


def recommend(groups: Sequence[SeedGroup]) -> list[str]:
    """Sentences about the runs of one data set, the most important first."""
    scratch, pretrained = split_by_adaptation(by_label(learning_curves(groups), groups))
    sentences = [_best(groups)]
    pair = _pair(scratch, pretrained) if scratch and pretrained else None
    if pair:
        sentences.append(_choice(pair))
    elif scratch and pretrained:
        sentences.append("Models from scratch and pretrained ones have no common flag_limit, so they are not compared.")
    return [*sentences, *_cost(groups, pair), *_focus(groups), *caveats(groups)]


def _best(groups: Sequence[SeedGroup]) -> str:
    """The best where most models were run, and which others are not behind it by more than chance in all pairs."""
    compared = at_one_limit(groups)
    limit = compared[0].coordinates.flag_limit
    scores = {label: group.estimate(CLEAN, macro_f1) for label, group in by_label(compared, groups).items()}
    best = max(scores, key=lambda label: scores[label].mean)
    text = f"At {limit} annotations per class {best} has the highest macro-F1, {_format(scores[best])}."
    if len(compared) == 1:
        return f"{text} No other model was run there."
    table = compare_with_best(groups)
    behind = table["low_of_all"] > 0
    close, single = (table.loc[rows, "model"].tolist() for rows in (~behind, behind & (table["seeds"] == 1)))
    if not close and not single:
        return f"{text} It is ahead of every other model there."
    text += f" No significant difference from it: {'; '.join(close)}." if close else ""
    return text + (
        f" Lower, but trained with one seed, and another seed may change this: {'; '.join(single)}." if single else ""
    )


def _pair(scratch: Mapping[str, LearningCurve], pretrained: Mapping[str, LearningCurve]) -> Pair | None:
    """The best from scratch and the best pretrained at the largest limit that both kinds have, if there is one."""
    limits = [{limit for curve in curves.values() for limit in curve.limits} for curves in (scratch, pretrained)]
    shared = set.intersection(*limits)
    if not shared:
        return None
    first, second = (leader(curves, max(shared))[0] for curves in (scratch, pretrained))
    return Pair(Candidate(first, scratch[first]), Candidate(second, pretrained[second]))


def _choice(pair: Pair) -> str:
    """Which of the two below and above which limit: where intervals are sure of it."""
    scratch, pretrained = pair.scratch.label, pair.pretrained.label
    limits, leads = pair.limits, pair.leads()
    evidence = "; ".join(f"at {limit} {format_ci(*lead.summary(), sign='+')}" for limit, lead in leads.items())
    evidence = f" {scratch} less {pretrained} in macro-F1: {evidence}."
    signs = [_sign(lead) for lead in leads.values()]
    if all(sign > 0 for sign in signs):
        return f"Train {scratch} on your own annotations: it is ahead of {pretrained} {_where(pair)}.{evidence}"
    if all(sign < 0 for sign in signs):
        return f"Use {pretrained}: it is ahead of {scratch} {_where(pair)}.{evidence}"
    if len(limits) > 1 and signs[-1]:
        return _change_of_leader(pair, signs) + evidence
    which = "every" if any(signs) else "any"
    seeds = "" if max(len(lead.seeds) for lead in leads.values()) > 1 else ", of one seed each,"
    text = f"Between {scratch} and {pretrained} these runs{seeds} show no significant difference at {which} limit."
    return text + evidence


def _change_of_leader(pair: Pair, signs: Sequence[int]) -> str:
    """From which limit on the one ahead at the largest limit is so; `signs` are of leads by rising limit."""
    limits = pair.limits
    scratch_ahead = signs[-1] > 0
    first, last = (pair.pretrained, pair.scratch) if scratch_ahead else (pair.scratch, pair.pretrained)
    if signs[0] == -signs[-1]:
        crossing = crossing_limit(last.curve, first.curve, macro_f1)
        ends = format_limit_range(limits, crossing.low, crossing.high)
        text = f"Below about {_round(crossing.limit)} annotations per class use {first.label}, above use {last.label}"
        return f"{text} (crossing at {crossing.limit:.0f}, {ends})."
    sure_from = limits[max(i for i, sign in enumerate(signs) if sign != signs[-1]) + 1]
    verb = "Train" if scratch_ahead else "Use"
    text = f"{verb} {last.label} from {sure_from} annotations per class on: there it is ahead of {first.label}"
    return f"{text}; below, these runs show no significant difference."


def _where(pair: Pair) -> str:
    limits = pair.limits
    if len(limits) > 1 and len(limits) == len({*pair.scratch.curve.limits, *pair.pretrained.curve.limits}):
        return "at every limit"
    return f"at {_and(limits)}, the only common limit{'s' * (len(limits) > 1)}"


def _sign(lead: Estimate) -> int:
    """Of a lead that is sure: its interval does not contain zero, and it is of more than one seed."""
    low, high = lead.interval()
    return int(np.sign(lead.mean)) if low * high > 0 and len(lead.seeds) > 1 else 0


def _and(limits: Sequence[int]) -> str:
    return " and ".join(", ".join(map(str, limits)).rsplit(", ", 1))


def _cost(groups: Sequence[SeedGroup], pair: Pair | None) -> list[str]:
    """Milliseconds of the two that are compared; of the cheapest and the dearest if these have no cards."""
    candidates = (pair.scratch, pair.pretrained) if pair else ()
    which = ""
    try:
        costs, machine = milliseconds({each.label: each.curve.groups[-1] for each in candidates}, groups)
        if len(costs) < 2:
            costs, machine = milliseconds(by_label(at_one_limit(groups), groups), groups)
            which = "cheapest and dearest of those timed; "
    except ValueError as error:
        return [f"Milliseconds are not compared: {error}."]
    if len(costs) < 2:
        return []
    ends = [pick(costs, key=lambda label: costs[label].median) for pick in (min, max)]
    times = " and ".join("{:.3g} ms ({:.3g} to {:.3g})".format(*costs[label]) + f" with {label}" for label in ends)
    return [f"A cell costs {times} ({which}one cell at a time, medians and quartiles, eager, {machine})."]


def _focus(groups: Sequence[SeedGroup]) -> list[str]:
    """Who is best out of focus, and whose score changes least and most."""
    try:
        blurred = under_blur(groups, "post")
    except ValueError as error:
        return [f"Slides out of focus are not compared: {error}."]
    chosen = by_label(at_one_limit(blurred), groups)
    shared = set.intersection(*({c for c in g.conditions() if c.kind == "post"} for g in chosen.values()))
    if not shared:
        return ["Models were evaluated under different sigmas, so losses out of focus are not compared."]
    strongest: Condition = max(shared, key=lambda condition: condition.sigma)
    scores = {label: group.estimate(strongest, macro_f1) for label, group in chosen.items()}
    changes = {label: difference(scores[label], group.estimate(CLEAN, macro_f1)) for label, group in chosen.items()}
    best = max(scores, key=lambda label: scores[label].mean)
    text = f"Out of focus (sigma {strongest.sigma:g} after the resize, flag_limit {limit_of(chosen)})"
    text = f"{text} {best} has the highest macro-F1, {_format(scores[best])}."
    ends = [pick(changes, key=lambda label: changes[label].mean) for pick in (max, min)]
    words = [f"by {_format(changes[label], sign='+')} in {label}{_of_one_seed(changes[label])}" for label in ends]
    if len(changes) == 1:
        return [f"{text} Against sharp cells it changes {words[0]}."]
    return [f"{text} Against sharp cells it changes {words[0]} at best, and {words[1]} at worst."]


def _of_one_seed(score: Estimate) -> str:
    return ", of one seed" if len(score.seeds) == 1 else ""


def _format(estimate: Estimate, sign: str = "") -> str:
    return format_ci(*estimate.summary(), sign=sign)


def _round(limit: float) -> int:
    """To two digits."""
    return int(float(f"{limit:.2g}"))
