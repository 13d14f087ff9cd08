"""The outcome of one job of a grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

State = Literal[
    "trained",
    "evaluated",
    "exists",
    "failed",
    "skipped (failed before)",
    "unavailable",  # its published weights are not on this machine
    "locked",  # another process trains it
    "interrupted",
    "to train",
    "to evaluate",
]


@dataclass(frozen=True)
class Outcome:
    """The outcome of a job's run, and messages about it; of a dry run, estimated seconds and MiB where known.

    `run` is the job's overrides where its run has no name yet. `traceback` is the file of a failed job's traceback.
    """

    run: str
    state: State
    messages: Sequence[str] = ()
    seconds: float | None = None
    mib: float | None = None
    traceback: str = ""


def format_outcome(outcome: Outcome, messages: Sequence[str] | None = None) -> str:
    """Lines for people about one run, with other messages than its own if they are given."""
    cost = "" if outcome.seconds is None else f", about {outcome.seconds / 60:.2g} min, {outcome.mib:.3g} MiB"
    lines = [*(outcome.messages if messages is None else messages)]
    lines += [f"its traceback: {outcome.traceback}"] if outcome.traceback else []
    return "\n    ".join([f"{outcome.state}: {outcome.run}{cost}", *lines])
