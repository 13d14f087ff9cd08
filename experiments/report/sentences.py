"""The sentences of the page: each states one thing that runs show, with its numbers."""

from collections.abc import Mapping, Sequence

from decisions import Segment, change_of_lead, decisive, segments
from verdicts import OWN, PRETRAINED, Verdict, leading_score

from cellpatch.analysis.curves import format_limit_range
from cellpatch.analysis.estimates import Estimate, difference
from cellpatch.analysis.groups import SeedGroup, at_one_limit
from cellpatch.analysis.labels import by_label
from cellpatch.analysis.latency_cards import Milliseconds, milliseconds
from cellpatch.figures.tables import format_ci
from cellpatch.metrics.scores import WIDESPREAD, macro_f1
from cellpatch.optics.conditions import CLEAN
from cellpatch.runtime.numbers import rounded

_NAMED = 4  # models of a set that a sentence names


def untested(groups: Sequence[SeedGroup]) -> str:
    """What no run of the data set can show."""
    limits = sorted({group.coordinates.flag_limit for group in groups})
    sigmas = sorted({condition.sigma for group in groups for condition in group.blur_conditions()})
    blur = f", blur beyond sigma {sigmas[-1]:g}" if sigmas[-1] else ""
    return (
        f"Not tested: other laboratories, scanners and stains, another split, more than {limits[-1]} annotations per "
        f"class{blur}."
    )


def choices(found: Sequence[Verdict]) -> list[str]:
    """What to use at which limits. Limits where few of the models were run decide nothing."""
    enough, limits = decisive(found), [verdict.limit for verdict in found]
    sentences = [_choice(segment, limits) for segment in segments(enough)]
    few = [verdict for verdict in found if verdict not in enough]
    if enough and few:
        most = max(len(verdict.scores) for verdict in found)
        where = ", ".join(str(verdict.limit) for verdict in few)
        sentences.append(f"At {where} only some of the {most} models were run, so no model is recommended there.")
    return sentences


def _choice(segment: Segment, limits: Sequence[int]) -> str:
    """Which model to use at the limits of a segment, and why."""
    where, last = _where(segment.limits, limits), segment.verdicts[-1]
    if last.why_open:
        return f"{where} nothing is significant: {last.why_open}. {last.leader} has the highest score."
    if segment.choice is None:
        names = " and ".join(f"'{baseline.label}'" for baseline in last.unbeaten)
        return f"{where} no model is significantly better than {names}: none is recommended."
    if segment.is_alone:
        return f"{where} use {segment.choice}: it is significantly better than every other model."
    among = _among(segment)
    if segment.kind is None:
        if len(last.kinds) == 1:
            return f"{where} use {segment.choice}, {among}."
        return f"{where} {_several(last.words(OWN))} and pretrained ones share the lead: use {segment.choice}, {among}."
    other = last.words(PRETRAINED if segment.kind == OWN else OWN)
    return f"{where} use {segment.choice}, {among}. Every {other} is significantly worse there."


def _among(segment: Segment) -> str:
    """Why the choice is one of those that may be the best at each limit of a segment."""
    last, useful = segment.verdicts[-1], segment.useful
    several = len(segment.limits) > 1
    close = "significantly from the best" + (" at any of these limits" if several else "")
    beats = useful != segment.members
    if len(useful) == 1:
        return f"the only model that does not differ {close}" + " and beats the baselines" * beats
    models = f"the {len(useful)} models that do not differ {close}" + " and beat the baselines" * beats
    highest = "the highest-scoring" + (f" at {last.limit}" if several else "")
    if not segment.states_costs:
        return f"{highest} of {models}"
    cheapest = len(segment.cheapest)
    if cheapest == 1:
        return f"the cheapest (in {last.costs.unit}) of {models}"
    if cheapest == len(useful):
        return f"{highest} of {models} and cost the same (in {last.costs.unit})"
    return f"{highest} of the {cheapest} that are cheapest (in {last.costs.unit}) among {models}"


def _several(words: str) -> str:
    return words.replace("model", "models", 1)


def _where(chosen: Sequence[int], limits: Sequence[int]) -> str:
    """Limits among all that were run, in words."""
    first, last = chosen[0], chosen[-1]
    within = [limit for limit in limits if first <= limit <= last]
    if len(chosen) < len(within) or first == last:
        return f"At {' and '.join(', '.join(map(str, chosen)).rsplit(', ', 1))} annotations per class"
    if within == list(limits):
        return f"At every limit ({first} to {last} annotations per class)"
    if first == limits[0]:
        return f"Up to {last} annotations per class"
    if last == limits[-1]:
        return f"From {first} annotations per class on"
    return f"From {first} to {last} annotations per class"


def change(found: Sequence[Verdict]) -> list[str]:
    """Where the lead changes from one kind to the other."""
    change = change_of_lead(found)
    if change is None:
        return []
    kind, crossing = change
    both = [verdict for verdict in found if len(verdict.kinds) == 2]
    ends = format_limit_range([verdict.limit for verdict in both], crossing.low, crossing.high)
    best = f"the best {both[-1].words(kind)}"
    return [f"From about {_round(crossing.limit)} annotations per class on {best} leads ({ends})."]


def best(verdict: Verdict, groups: Sequence[SeedGroup]) -> str:
    """The best at a limit, and which others are not behind it by more than chance."""
    leader = verdict.leader
    text = f"At {verdict.limit} annotations per class {leader} has the highest {leading_score(groups).words}, "
    text += f"{format_score(verdict.scores[leader])}."
    if len(verdict.scores) == 1:
        return f"{text} No other model was run there."
    return text + _not_different(verdict)


def _not_different(verdict: Verdict) -> str:
    close = [label for label in verdict.members if label != verdict.leader]
    if verdict.why_open:
        return f" No difference is significant: {verdict.why_open}."
    if not close:
        return " It is significantly better than every other model."
    if not verdict.behind:
        return " No model differs significantly from it."
    worse = list_some(verdict.behind) if len(verdict.behind) <= _NAMED else f"{len(verdict.behind)} models"
    return f" Not significantly different: {list_some(close)}. Significantly worse: {worse}."


def classes(groups: Sequence[SeedGroup]) -> list[str]:
    """Over which classes scores are, if not all, and what the score over all is."""
    score = leading_score(groups)
    if not score.left_out:
        return []
    compared = by_label(at_one_limit(groups), groups)
    plain = {label: group.estimate(CLEAN, macro_f1) for label, group in compared.items()}
    leader = max(plain, key=lambda label: plain[label].mean)
    return [
        f"Widespread macro-F1 is over the classes in at least {WIDESPREAD} test specimens, without "
        f"{list_some(score.left_out)}: intervals of rarer classes are unreliable. Over all classes {leader} has the "
        f"highest macro-F1, {format_score(plain[leader])}."
    ]


def baselines(verdict: Verdict) -> list[str]:
    """What the baselines score, and which models do not beat them."""
    sentences = []
    for i, baseline in enumerate(verdict.baselines):
        kind = "model" if i else "rule"
        text = f"The {kind} '{baseline.label}' is a baseline: {format_score(baseline.score)}."
        lacking = [label for label in verdict.scores if not verdict.beats(label, baseline)]
        if lacking and not verdict.why_open:
            text += f" Not significantly better: {list_some(lacking)}."
        elif not verdict.why_open:
            text += " Every model is significantly better."
        sentences.append(text)
    if len(verdict.baselines) == 1:
        sentences.append("The baseline on colour was not run: the same command with model=colour adds it in seconds.")
    return sentences


def cost(groups: Sequence[SeedGroup], verdict: Verdict) -> list[str]:
    """Milliseconds of the cheapest and the dearest model."""
    try:
        costs, machine = milliseconds(verdict.groups, groups)
    except ValueError as error:
        return [f"Milliseconds are not compared: {error}."]
    if len(costs) < 2:
        return []
    ends = [pick(costs, key=lambda label: costs[label].median) for pick in (min, max)]
    how = f"(one cell at a time, medians and quartiles, eager, {machine})"
    if costs[ends[0]].median == costs[ends[1]].median:
        return [f"A cell costs {rounded(costs[ends[0]].median)} ms with every model {how}."]
    times = " and ".join("{} ms ({} to {})".format(*map(rounded, costs[label])) + _with(label, costs) for label in ends)
    return [f"A cell costs {times}, the cheapest and the dearest of those timed {how}."]


def _with(label: str, costs: Mapping[str, Milliseconds]) -> str:
    """The model, and how many others cost the same."""
    same = sum(each.median == costs[label].median for each in costs.values()) - 1
    return f" with {label}" + (f" and {same} other{'s' * (same > 1)}" if same else "")


def no_focus(groups: Sequence[SeedGroup]) -> str:
    if any(len(group.blur_conditions()) > 1 for group in groups):
        return "Models were evaluated under different blur, so they are not compared out of focus."
    return (
        "No run was evaluated under blur, so slides out of focus were not tested: optics=blur evaluates finished runs."
    )


def focus(verdict: Verdict, groups: Sequence[SeedGroup]) -> str:
    """Who is best out of focus, and whose score changes least and most."""
    scores, score = verdict.scores, leading_score(groups)
    changes = {
        label: difference(blurred, verdict.groups[label].estimate(CLEAN, score.score))
        for label, blurred in scores.items()
    }
    leader = verdict.leader
    text = f"Out of focus (sigma {verdict.condition.sigma:g} after the resize, flag_limit {verdict.limit})"
    text = f"{text} {leader} has the highest {score.words}, {format_score(scores[leader])}."
    text += _not_different(verdict) if len(scores) > 1 else ""
    ends = [pick(changes, key=lambda label: changes[label].mean) for pick in (max, min)]
    words = [f"by {format_score(changes[label], sign='+')} in {label}{_of_one_seed(changes[label])}" for label in ends]
    if len(changes) == 1:
        return f"{text} Against sharp cells it changes {words[0]}."
    return f"{text} Against sharp cells it changes {words[0]} at best, and {words[1]} at worst."


def _of_one_seed(score: Estimate) -> str:
    return " (one seed)" if len(score.seeds) == 1 else ""


def list_some(labels: Sequence[str]) -> str:
    more = f"; and {len(labels) - _NAMED} more" if len(labels) > _NAMED + 1 else ""
    return "; ".join(labels[:_NAMED] if more else labels) + more


def format_score(estimate: Estimate, sign: str = "") -> str:
    return format_ci(*estimate.summary(), sign=sign)


def _round(limit: float) -> int:
    """To two digits."""
    return int(float(f"{limit:.2g}"))
