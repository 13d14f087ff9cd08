"""The outcome of one job."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

State = Literal[
    "trained",
    "evaluated",
    "exists",
    "failed",
    "failed before",
    "unavailable",  # its weights cannot be had here
    "elsewhere",  # for the moment: another process is at the run
    "cut off",
    "to train",
    "to evaluate",
]


@dataclass(frozen=True)
class Outcome:
    """What became of a job's run and what there is to say of it; of a dry run, seconds and MiB if they can be told.

    `run` is the job's overrides where its run has no name yet.
    """

    run: str
    state: State
    said: Sequence[str] = ()
    seconds: float | None = None
    mib: float | None = None


def format_outcome(outcome: Outcome) -> str:
    """Lines for people about one run."""
    cost = "" if outcome.seconds is None else f", about {outcome.seconds / 60:.2g} min, {outcome.mib:.3g} MiB"
    return "\n    ".join([f"{outcome.state}: {outcome.run}{cost}", *outcome.said])
