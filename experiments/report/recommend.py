"""What a reader takes away: answers to five questions, and the decision at each limit."""

from collections.abc import Sequence
from dataclasses import dataclass

import image_faults
import pandas as pd
import sentences
from caveats import caveats
from decisions import choices_by_limit
from verdicts import Verdict, verdicts

from cellpatch.analysis.groups import SeedGroup, at_one_limit


@dataclass(frozen=True)
class Answer:
    """A question that a reader of the page has, and sentences that answer it."""

    question: str
    sentences: list[str]


@dataclass(frozen=True)
class Recommendation:
    """The first screen of a data set: answers, the most important first, and the decision at each limit."""

    answers: list[Answer]
    by_limit: pd.DataFrame

    @property
    def sentences(self) -> list[str]:
        return [sentence for answer in self.answers for sentence in answer.sentences]


def recommend(groups: Sequence[SeedGroup]) -> Recommendation:
    """What the runs of one data set say."""
    found, blurred = verdicts(groups)
    most = at_one_limit(groups)[0].coordinates.flag_limit
    compared = next(verdict for verdict in found if verdict.limit == most)
    blur = sentences.focus(blurred, groups) if blurred else sentences.no_focus(groups)
    sure = [sentences.best(compared, groups), *sentences.classes(groups), *sentences.baselines(compared)]
    answers = [
        Answer("Which model, from how many annotations on?", [*sentences.choices(found), *sentences.change(found)]),
        Answer("How sure is this?", sure),
        Answer("What does it cost?", sentences.cost(groups, compared)),
        Answer("What if slides are out of focus?", [blur]),
        Answer("What if images have other faults?", image_faults.faults(groups)),
        Answer("What limits these results?", [sentences.untested(groups), *caveats(groups)]),
    ]
    return Recommendation([answer for answer in answers if answer.sentences], _by_limit(found))


def _by_limit(found: Sequence[Verdict]) -> pd.DataFrame:
    """A row a limit: the best model, those that do not differ significantly from it, and the recommended one."""
    rows, choices = [], choices_by_limit(found)
    for verdict in found:
        close = [label for label in verdict.members if label != verdict.leader]
        row = {"annotations per class": str(verdict.limit), "best model": verdict.leader}
        row["its score"] = sentences.format_score(verdict.scores[verdict.leader])
        row["not significantly different"] = (
            "all" if close and not verdict.behind else sentences.list_some(close) or "none"
        )
        row["models"] = str(len(verdict.scores))
        rows.append(row | {"use": choices.get(verdict.limit, "-")})
    return pd.DataFrame(rows)
