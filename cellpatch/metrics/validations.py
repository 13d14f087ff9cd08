"""Which validation of a training was its best one."""

from collections.abc import Sequence
from typing import Literal

BestValidation = Literal["first", "last"]


def count_best_validations(kept: Sequence[str | None]) -> str:
    """How many of these trainings were best at their last validation, and at their first; empty without a training."""
    if not kept:
        return ""
    last, first = kept.count("last"), kept.count("first")
    return f"{last} of {len(kept)} trainings were best at their last validation, {first} at their first"


def best_validation(scores: Sequence[float]) -> BestValidation | None:
    """Whether the best of these validation scores is the last, or the first; None if neither.

    A last score that equals an earlier one does not count: the score no longer rose. A single validation is the last.
    """
    best = max(scores)
    if best not in scores[:-1]:
        return "last"
    return "first" if best not in scores[1:] else None
