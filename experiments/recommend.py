"""What a reader takes away: which model from how many annotations on, in sentences that carry their evidence."""

from collections.abc import Mapping, Sequence

import numpy as np
from figure2 import milliseconds

from cellpatch import stats
from cellpatch.captions import labelled
from cellpatch.conditions import CLEAN, Condition
from cellpatch.curves import Curve, crossing, curves
from cellpatch.estimates import Estimate, difference
from cellpatch.groups import Group, at_one_limit, limit_of
from cellpatch.typeset import with_interval


def recommend(groups: Sequence[Group]) -> list[str]:
    """Sentences about the runs of one data set, the most important first."""
    found = labelled(curves(groups))
    small = {label: curve for label, curve in found.items() if curve.place["adapt"] == "scratch"}
    large = {label: curve for label, curve in found.items() if curve.place["adapt"] != "scratch"}
    told = [_best(found)]
    if small and large:
        told.append(_choice(small, large))
    return [*told, *_cost(groups), *_focus(groups), *_limits(groups)]


def leader(found: Mapping[str, Curve], limit: int) -> tuple[str, Estimate] | None:
    """The label and macro-F1 of the best of these curves at a limit, if one was run there."""
    there = {
        label: curve.estimates([limit], stats.macro_f1)[0] for label, curve in found.items() if limit in curve.limits
    }
    return max(there.items(), key=lambda item: item[1].mean) if there else None


def _best(found: Mapping[str, Curve]) -> str:
    top = max(limit for curve in found.values() for limit in curve.limits)
    best = leader(found, top)
    assert best is not None
    name, score = best
    close = []
    for label, curve in found.items():
        if label != name and top in curve.limits:
            low, _ = difference(score, curve.estimates([top], stats.macro_f1)[0]).interval()
            close += [label] if low <= 0 else []
    text = f"At {top} annotations per class {name} has the highest macro-F1, {_scored(score)}."
    if close:
        return f"{text} Not told apart from it: {', '.join(close)}."
    others = sum(top in curve.limits for curve in found.values()) - 1
    return f"{text} It is ahead of every other model." if others else f"{text} No other model was run there."


def _choice(small: Mapping[str, Curve], large: Mapping[str, Curve]) -> str:
    """Below which limit a pretrained model, above which one from scratch, of the best of each at the largest limit."""
    shared = sorted(
        {limit for curve in small.values() for limit in curve.limits}
        & {limit for curve in large.values() for limit in curve.limits}
    )
    if not shared:
        return "Models from scratch and pretrained ones share no flag_limit here, so they are not compared."
    mine, theirs = (leader(part, shared[-1]) for part in (small, large))
    assert mine is not None
    assert theirs is not None
    one, other = small[mine[0]], large[theirs[0]]
    both = sorted(set(one.limits) & set(other.limits))
    pairs = zip(one.estimates(both, stats.macro_f1), other.estimates(both, stats.macro_f1), strict=True)
    ahead = {limit: difference(a, b) for limit, (a, b) in zip(both, pairs, strict=True)}
    evidence = "; ".join(
        f"at {limit} {apart.mean:+.3f} ({apart.interval()[0]:+.3f} to {apart.interval()[1]:+.3f})"
        for limit, apart in ahead.items()
    )
    evidence = f" {mine[0]} less {theirs[0]} in macro-F1: {evidence}."
    sure = {
        limit: np.sign(apart.mean) * (apart.interval()[0] * apart.interval()[1] > 0) for limit, apart in ahead.items()
    }
    where = "at every limit" if len(both) > 1 else f"at {both[0]}, the only limit that both have"
    if all(sign > 0 for sign in sure.values()):
        return f"Train {mine[0]} on your own annotations: it is ahead of {theirs[0]} {where}.{evidence}"
    if all(sign < 0 for sign in sure.values()):
        return f"Use {theirs[0]}: it is ahead of {mine[0]} {where}.{evidence}"
    if len(both) > 1:
        place, low, high = crossing(one, other, stats.macro_f1)
        if 0 < place < np.inf and sure[both[-1]] > 0:
            ends = f"{low:.0f} to {high:.0f}" if high < np.inf else f"{low:.0f} or later"
            text = f"Below about {_round(place)} annotations per class use {theirs[0]}, above use {mine[0]}"
            return f"{text} (crossing at {place:.0f}, {ends}).{evidence}"
    return f"Between {mine[0]} and {theirs[0]} these runs do not decide at every limit.{evidence}"


def _cost(groups: Sequence[Group]) -> list[str]:
    try:
        costs = milliseconds(labelled(at_one_limit(groups)), groups)
    except ValueError as error:
        return [f"Of milliseconds nothing is said: {error}."]
    if len(costs) < 2:
        return []
    fast, slow = min(costs, key=lambda label: costs[label]), max(costs, key=lambda label: costs[label])
    ends = f"{costs[fast]:.3g} ms with {fast} and {costs[slow]:.3g} ms with {slow}, the cheapest and the dearest"
    return [f"A cell costs {ends} (one cell at a time, eager)."]


def _focus(groups: Sequence[Group]) -> list[str]:
    blurred = [g for g in groups if any(c.kind == "post" for c in g.conditions())]
    if not blurred:
        return ["Nothing is said of slides out of focus: no run was evaluated under blur (optics=blur)."]
    chosen = labelled(at_one_limit(blurred))
    shared = set.intersection(*({c.sigma for c in g.conditions() if c.kind == "post"} for g in chosen.values()))
    if not shared:
        return ["Models were evaluated under different sigmas: which loses most out of focus is not said."]
    strongest = max(shared)
    losses = {
        label: difference(*(group.estimate(c, stats.macro_f1) for c in (CLEAN, Condition("post", strongest))))
        for label, group in chosen.items()
    }
    least, most = min(losses, key=lambda label: losses[label].mean), max(losses, key=lambda label: losses[label].mean)
    text = f"Out of focus (sigma {strongest:g} after the resize, flag_limit {limit_of(chosen)})"
    if least == most:
        return [f"{text} {least} loses {_scored(losses[least])} macro-F1."]
    ends = f"{least} loses least macro-F1, {_scored(losses[least])}, and {most} most, {_scored(losses[most])}"
    return [f"{text} {ends}."]


def _limits(groups: Sequence[Group]) -> list[str]:
    told = []
    if min(len(group.seeds) for group in groups) == 1:
        told.append("Some models were trained with one seed: how much another would differ is not in their intervals.")
    true = groups[0].runs[0].confusions[CLEAN].sum(axis=(0, 2))
    rare = [f"{name} ({n})" for name, n in zip(groups[0].runs[0].record["classes"], true, strict=True) if 0 < n < 50]
    if rare:
        told.append(
            f"Classes with fewer than 50 test cells weigh as much in macro-F1 as all others: {', '.join(rare)}."
        )
    return told


def _scored(estimate: Estimate) -> str:
    return with_interval(*estimate.summary())


def _round(limit: float) -> int:
    """To two digits."""
    return int(float(f"{limit:.2g}"))
