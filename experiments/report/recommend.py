"""What a reader takes away: which model from how many annotations on, in sentences that carry their evidence."""

from collections.abc import Mapping, Sequence

import numpy as np
from make_all import EXPERIMENTS, load

from cellpatch.analysis.curves import LearningCurve, crossing_limit, format_limit_range, learning_curves
from cellpatch.analysis.estimates import Estimate, difference
from cellpatch.analysis.groups import SeedGroup, at_one_limit, limit_of, redrawn, under_blur
from cellpatch.analysis.labels import by_label
from cellpatch.analysis.latency_cards import milliseconds
from cellpatch.figures.captions import specimen_unit_note
from cellpatch.figures.tables import format_ci
from cellpatch.metrics.scores import macro_f1
from cellpatch.optics.conditions import CLEAN, Condition

compare_table = load(EXPERIMENTS / "tables" / "compare_table.py")
FEW = 20  # test specimens below which a model's interval holds the truth in less than 92 of 100 studies (coverage.csv)
SCATTERED = 5  # test specimens of a class below which intervals are less sure
Pair = tuple[tuple[str, LearningCurve], tuple[str, LearningCurve]]  # labels and curves: from scratch, pretrained


def recommend(groups: Sequence[SeedGroup]) -> list[str]:
    """Sentences about the runs of one data set, the most important first."""
    found = by_label(learning_curves(groups), groups)
    small = {label: curve for label, curve in found.items() if curve.place["adapt"] == "scratch"}
    large = {label: curve for label, curve in found.items() if curve.place["adapt"] != "scratch"}
    told = [_best(groups)]
    pair = _pair(small, large) if small and large else None
    if pair:
        told.append(_choice(*pair))
    elif small and large:
        told.append("Models from scratch and pretrained ones share no flag_limit here, so they are not compared.")
    return [*told, *_cost(groups, pair), *_focus(groups), *_limits(groups)]


def leader(found: Mapping[str, LearningCurve], limit: int) -> tuple[str, Estimate]:
    """The label and macro-F1 of the best of these curves at a limit; raises ValueError if none was run there."""
    there = {label: curve.estimates([limit], macro_f1)[0] for label, curve in found.items() if limit in curve.limits}
    return max(there.items(), key=lambda item: item[1].mean)


def _best(groups: Sequence[SeedGroup]) -> str:
    """The best where most models were run, and which others are not behind it by more than chance in all pairs."""
    there = at_one_limit(groups)
    limit = there[0].place["flag_limit"]
    scores = {label: group.estimate(CLEAN, macro_f1) for label, group in by_label(there, groups).items()}
    best = max(scores, key=lambda label: scores[label].mean)
    text = f"At {limit} annotations per class {best} has the highest macro-F1, {_scored(scores[best])}."
    if len(there) == 1:
        return f"{text} No other model was run there."
    table = compare_table.summarise(groups)
    behind = table["low_of_all"] > 0
    close, single = (table.loc[rows, "model"].tolist() for rows in (~behind, behind & (table["seeds"] == 1)))
    if not close and not single:
        return f"{text} It is ahead of every other model there."
    text += f" Not told apart from it: {'; '.join(close)}." if close else ""
    return text + (f" Behind it by one seed alone, which another may turn: {'; '.join(single)}." if single else "")


def _pair(small: Mapping[str, LearningCurve], large: Mapping[str, LearningCurve]) -> Pair | None:
    """The best from scratch and the best pretrained at the largest limit that both kinds have, if there is one."""
    mine, theirs = ({limit for curve in part.values() for limit in curve.limits} for part in (small, large))
    if not mine & theirs:
        return None
    one, other = (leader(part, max(mine & theirs))[0] for part in (small, large))
    return (one, small[one]), (other, large[other])


def _choice(mine: tuple[str, LearningCurve], theirs: tuple[str, LearningCurve]) -> str:
    """Which of the two below and above which limit: where intervals are sure of it."""
    (one, small), (other, large) = mine, theirs
    both = sorted(set(small.limits) & set(large.limits))
    pairs = zip(small.estimates(both, macro_f1), large.estimates(both, macro_f1), strict=True)
    ahead = {limit: difference(a, b) for limit, (a, b) in zip(both, pairs, strict=True)}
    evidence = "; ".join(f"at {limit} {format_ci(*apart.summary(), sign='+')}" for limit, apart in ahead.items())
    evidence = f" {one} less {other} in macro-F1: {evidence}."
    sure = [_sign(apart) for apart in ahead.values()]
    whole = len(both) == len({*small.limits, *large.limits})
    where = (
        "at every limit"
        if whole and len(both) > 1
        else f"at {_and(both)}, the only limit{'s' * (len(both) > 1)} that both have"
    )
    if all(sign > 0 for sign in sure):
        return f"Train {one} on your own annotations: it is ahead of {other} {where}.{evidence}"
    if all(sign < 0 for sign in sure):
        return f"Use {other}: it is ahead of {one} {where}.{evidence}"
    if len(both) > 1 and sure[-1]:
        (first, below), (last, above) = (theirs, mine) if sure[-1] > 0 else (mine, theirs)
        if sure[0] == -sure[-1]:
            place, low, high = crossing_limit(above, below, macro_f1)
            text = f"Below about {_round(place)} annotations per class use {first}, above use {last}"
            return f"{text} (crossing at {place:.0f}, {format_limit_range(both, low, high)}).{evidence}"
        sure_from = both[max(i for i, sign in enumerate(sure) if sign != sure[-1]) + 1]
        verb = "Train" if last == one else "Use"
        text = f"{verb} {last} from {sure_from} annotations per class on: there it is ahead of {first}"
        return f"{text}; below, these runs do not decide.{evidence}"
    which = "every" if any(sure) else "any"
    seeds = "" if max(len(apart.seeds) for apart in ahead.values()) > 1 else ", of one seed each,"
    return f"Between {one} and {other} these runs{seeds} do not decide at {which} limit.{evidence}"


def _sign(apart: Estimate) -> int:
    """Of a difference that is sure: its interval holds no zero, and it is of more than one seed."""
    low, high = apart.interval()
    return int(np.sign(apart.mean)) if low * high > 0 and len(apart.seeds) > 1 else 0


def _and(limits: Sequence[int]) -> str:
    return " and ".join(", ".join(map(str, limits)).rsplit(", ", 1))


def _cost(groups: Sequence[SeedGroup], pair: Pair | None) -> list[str]:
    """Milliseconds of the two that are compared; of the cheapest and the dearest if these have no cards."""
    compared = {label: curve.groups[-1] for label, curve in pair or ()}
    which = ""
    try:
        costs, machine = milliseconds(compared, groups)
        if len(costs) < 2:
            costs, machine = milliseconds(by_label(at_one_limit(groups), groups), groups)
            which = "cheapest and dearest of those timed; "
    except ValueError as error:
        return [f"Of milliseconds nothing is said: {error}."]
    if len(costs) < 2:
        return []
    ends = [pick(costs, key=lambda label: costs[label][0]) for pick in (min, max)]
    told = " and ".join("{:.3g} ms ({:.3g} to {:.3g})".format(*costs[label]) + f" with {label}" for label in ends)
    return [f"A cell costs {told} ({which}one cell at a time, medians and quartiles, eager, {machine})."]


def _focus(groups: Sequence[SeedGroup]) -> list[str]:
    try:
        blurred = under_blur(groups, "post")
    except ValueError as error:
        return [f"Nothing is said of slides out of focus: {error}."]
    chosen = by_label(at_one_limit(blurred), groups)
    shared = set.intersection(*({c.sigma for c in g.conditions() if c.kind == "post"} for g in chosen.values()))
    if not shared:
        return ["Models were evaluated under different sigmas: which loses most out of focus is not said."]
    strongest = max(shared)
    scores = {
        label: [group.estimate(c, macro_f1) for c in (CLEAN, Condition("post", strongest))]
        for label, group in chosen.items()
    }
    changes = {label: difference(blurred, clean) for label, (clean, blurred) in scores.items()}
    text = f"Out of focus (sigma {strongest:g} after the resize, flag_limit {limit_of(chosen)})"
    best = max(scores, key=lambda label: scores[label][1].mean)
    told = f"{text} {best} has the highest macro-F1, {_scored(scores[best][1])}."
    ends = [pick(changes, key=lambda label: changes[label].mean) for pick in (max, min)]
    words = [
        f"by {format_ci(*changes[label].summary(), sign='+')} in {label}{_of_one(changes[label])}" for label in ends
    ]
    if len(changes) == 1:
        return [f"{told} Against sharp cells it changes {words[0]}."]
    return [f"{told} Against sharp cells it changes {words[0]} at best, and {words[1]} at worst."]


def _of_one(score: Estimate) -> str:
    return ", of one seed" if len(score.seeds) == 1 else ""


def _limits(groups: Sequence[SeedGroup]) -> list[str]:
    told = []
    specimens = groups[0].n_specimens
    if groups[0].no_interval:
        told.append(f"No number here has an interval: {groups[0].no_interval}.")
    elif specimens < FEW:
        told.append(
            f"Of {specimens} test specimens the intervals are too narrow: of three seeds they hold the truth in 92 to "
            f"95 of 100 simulated studies from {FEW} on."
        )
    if min(len(group.seeds) for group in groups) == 1:
        told.append("Some models were trained with one seed: how much another would differ is not in their intervals.")
    true = groups[0].runs[0].confusions[CLEAN].sum(axis=(0, 2))
    classes = groups[0].runs[0].record["classes"]
    absent = [name for name, n in zip(classes, true, strict=True) if n == 0]
    if absent:
        told.append(f"Classes without a test cell, of which nothing is known: {', '.join(absent)}.")
    of = (groups[0].runs[0].confusions[CLEAN].sum(axis=2) > 0).sum(axis=0)  # specimens that have each class
    facts = list(zip(classes, true, of, strict=True))
    rare = [
        f"{name} ({n} cells in {s} specimen{'s' if s > 1 else ''})"
        for name, n, s in facts
        if 0 < n < 50 or 0 < s < SCATTERED
    ]
    if rare:
        told.append(
            f"Classes with fewer than 50 test cells, or in fewer than {SCATTERED} specimens, weigh as much in "
            f"macro-F1 as all others, and make its intervals less sure: {', '.join(rare)}."
        )
    again = redrawn(groups[0])
    if again > 0.01:
        told.append(f"{100 * again:.0f} % of the draws of specimens lacked a class and were drawn again.")
    told += _short(groups)
    if specimen_unit_note(groups):
        told.append(
            f"Of the specimens {specimen_unit_note(groups)}: cells of one patient may be in training and test, which "
            "makes scores too good, and other patients may differ more than the intervals say."
        )
    return told


def _short(groups: Sequence[SeedGroup]) -> list[str]:
    """Classes that have fewer training cells than the limit that most models share."""
    there = at_one_limit(groups)[0]
    limit, counts = there.place["flag_limit"], there.runs[0].record["counts"]["train"]
    short = [f"{name} ({n})" for name, n in counts.items() if n < limit]
    return [f"At flag_limit {limit} these classes have fewer training cells: {', '.join(short)}."] if short else []


def _scored(estimate: Estimate) -> str:
    return format_ci(*estimate.summary())


def _round(limit: float) -> int:
    """To two digits."""
    return int(float(f"{limit:.2g}"))
