"""What the runs of a data set decide at each flag_limit, and out of focus.

All decisions of a page hold together: the sets of models that may be best are of one `best_sets`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cellpatch.analysis.baselines import COLOUR, Baseline, largest_class
from cellpatch.analysis.best_set import BestSet, best_sets
from cellpatch.analysis.costs import training_cost
from cellpatch.analysis.curves import side_title
from cellpatch.analysis.estimates import Estimate
from cellpatch.analysis.groups import SeedGroup, at_one_limit, limit_of, under_blur
from cellpatch.analysis.labels import by_label
from cellpatch.analysis.latency_cards import milliseconds
from cellpatch.metrics.scores import WIDESPREAD, Score, macro_f1, macro_f1_of
from cellpatch.optics.conditions import CLEAN, Condition

OWN, PRETRAINED = "own", "pretrained"  # kinds of models: without and with published weights


@dataclass(frozen=True)
class LeadingScore:
    """Macro-F1 over the classes that lie in enough test specimens, or over all; `words` name it."""

    score: Score
    words: str
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Costs:
    """What models cost, of those that state it, and the unit."""

    by_label: Mapping[str, float]
    unit: str


@dataclass(frozen=True)
class Verdict:
    """The models of one flag_limit under one condition: their scores, and which may be the best.

    `baselines` are what each must beat: the largest class always, and a probe on colour if it was run.
    """

    limit: int
    condition: Condition
    groups: Mapping[str, SeedGroup]
    scores: Mapping[str, Estimate]
    best: BestSet
    baselines: tuple[Baseline, ...]
    costs: Costs

    @property
    def leader(self) -> str:
        return max(self.scores, key=lambda label: self.scores[label].mean)

    @property
    def members(self) -> list[str]:
        """The models that do not differ significantly from the best, by falling score."""
        return [label for label in self.best.members if label in self.scores]

    @property
    def behind(self) -> list[str]:
        """The models that are significantly worse than the best."""
        falling = sorted(self.scores, key=lambda label: -self.scores[label].mean)
        return [label for label in falling if label not in self.members]

    @property
    def useful(self) -> list[str]:
        """The members that are significantly better than every baseline."""
        return [label for label in self.members if all(self.beats(label, each) for each in self.baselines)]

    @property
    def unbeaten(self) -> list[Baseline]:
        """The baselines that no member is significantly better than; all, if no member beats them all."""
        lacking = [each for each in self.baselines if not any(self.beats(label, each) for label in self.members)]
        return lacking or list(self.baselines)

    def beats(self, label: str, baseline: Baseline) -> bool:
        """Whether a model is significantly better than a baseline."""
        return (label, baseline.label) in self.best.ahead

    @property
    def why_open(self) -> str:
        """Why nothing can be significant; empty if something can."""
        if all(len(score.seeds) == 1 for score in self.scores.values()):
            return "every model has one seed"
        return next(iter(self.groups.values())).no_interval

    def kind(self, label: str) -> str:
        """OWN or PRETRAINED."""
        return OWN if self.groups[label].coordinates.own_weights else PRETRAINED

    def words(self, kind: str) -> str:
        """What a model of a kind is called."""
        if kind == PRETRAINED:
            return "pretrained model"
        own = [group.coordinates for label, group in self.groups.items() if self.kind(label) == OWN]
        return f"model {side_title(own)}"

    @property
    def kinds(self) -> set[str]:
        """The kinds of all models that were run here."""
        return {self.kind(label) for label in self.scores}

    @property
    def decided_kind(self) -> str | None:
        """The kind of all members, if there are two kinds and one is left."""
        kinds = {self.kind(label) for label in self.members}
        return kinds.pop() if len(kinds) == 1 and len(self.kinds) == 2 else None


def leading_score(groups: Sequence[SeedGroup]) -> LeadingScore:
    """Macro-F1 over widespread classes, where two or more are so and others are not; else over all."""
    present = {name: n for name, n in groups[0].specimens_by_class.items() if n}
    left_out = tuple(name for name, n in present.items() if n < WIDESPREAD)
    if not left_out or len(present) - len(left_out) < 2:
        return LeadingScore(macro_f1, "macro-F1")
    classes = groups[0].runs[0].record.classes
    codes = tuple(code for code, name in enumerate(classes) if present.get(name, 0) >= WIDESPREAD)
    return LeadingScore(macro_f1_of(codes), "widespread macro-F1", left_out)


def verdicts(groups: Sequence[SeedGroup]) -> tuple[list[Verdict], Verdict | None]:
    """The verdict at each flag_limit, rising, and the one under the strongest blur that all models share, if any."""
    limits = sorted({group.coordinates.flag_limit for group in groups})
    at_limits = [[group for group in groups if group.coordinates.flag_limit == limit] for limit in limits]
    cases = [(by_label(each, groups), CLEAN) for each in at_limits]
    blurred = _strongest_blur(groups)
    cases += [blurred] if blurred else []
    score = leading_score(groups).score
    rule = largest_class(groups, score)
    found = []
    scores = [{name: group.estimate(condition, score) for name, group in of.items()} for of, condition in cases]
    sets = best_sets([each | {rule.label: rule.score} for each in scores])
    for (of, condition), each, best in zip(cases, scores, sets, strict=True):
        models = {name: group for name, group in of.items() if group.coordinates.model != COLOUR} or of
        colour = [name for name in of if name not in models]
        own = {name: each[name] for name in models}
        baselines = (rule, *(Baseline(name, each[name]) for name in colour))
        found.append(Verdict(limit_of(of), condition, models, own, best, baselines, costs_of(models, groups)))
    return found[: len(limits)], found[-1] if blurred else None


def _strongest_blur(groups: Sequence[SeedGroup]) -> tuple[dict[str, SeedGroup], Condition] | None:
    """Models and condition of blur after the resize; None if they share none."""
    try:
        chosen = by_label(at_one_limit(under_blur(groups, "post")), groups)
    except ValueError:
        return None
    shared = set.intersection(*({c for c in group.conditions() if c.kind == "post"} for group in chosen.values()))
    return (chosen, max(shared, key=lambda condition: condition.sigma)) if shared else None


def costs_of(chosen: Mapping[str, SeedGroup], groups: Sequence[SeedGroup]) -> Costs:
    """Milliseconds of a cell if a model has a card and all cards are of one machine, else core seconds of training."""
    try:
        costs, _ = milliseconds(chosen, groups)
    except ValueError:
        costs = {}
    if costs:
        return Costs({label: each.median for label, each in costs.items()}, "milliseconds per cell")
    seconds = {label: training_cost(group, groups).core_seconds for label, group in chosen.items()}
    return Costs({label: each for label, each in seconds.items() if each is not None}, "core seconds of training")
