"""The summary of a grid: how many jobs ended how, and each error once, with the jobs that it ended."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cellpatch.runs.outcome import Outcome, format_outcome
from cellpatch.runtime.numbers import rounded

FAILURES = ("failed", "skipped (failed before)", "interrupted")
_LISTED = (*FAILURES, "unavailable")


@dataclass(frozen=True)
class _Group:
    """Jobs that ended alike: their outcomes by the number of the job."""

    jobs: dict[int, Outcome]

    @property
    def first(self) -> int:
        return min(self.jobs)


def format_summary(outcomes: Sequence[Outcome], runs_dir: Path, logged: Collection[tuple[str, ...]] = ()) -> str:
    """Lines for people: each error once with its jobs, how many jobs ended how; of a dry run, each job.

    `logged` are the errors that this process has logged. Where no job did anything else they are right above, and the
    summary refers to them.
    """
    counts = Counter(outcome.state for outcome in outcomes)
    planned = counts["to train"] + counts["to evaluate"] > 0
    above = logged if counts["failed"] + counts["unavailable"] == len(outcomes) else ()
    listed = {number: each for number, each in enumerate(outcomes) if planned or each.state in _LISTED}
    lines = [_format_group(group, above) for group in _grouped(listed)]
    lines.append(f"{len(outcomes)} jobs: {', '.join(f'{n} {state}' for state, n in sorted(counts.items()))}")
    if counts["to train"]:
        lines.append(_total(outcomes, counts["to train"], runs_dir))
    other_code = [outcome for outcome in outcomes if outcome.state in ("exists", "evaluated") and outcome.messages]
    if other_code:
        lines.append(f"{len(other_code)} of the runs that exist: {other_code[0].messages[0]}")
    warned = [outcome for outcome in outcomes if outcome.state == "trained" and outcome.messages]
    if warned:
        lines.append(f"{len(warned)} of the runs that were trained: {warned[0].messages[0]}")
    if any((runs_dir / ".failed").glob("[!.]*.log")) and counts["failed"] + counts["skipped (failed before)"]:
        lines.append(f"retry_failed=true retries failed runs; {runs_dir}/.failed has the last traceback of each")
    if counts["interrupted"]:
        lines.append("the same command continues where it was interrupted")
    return "\n".join(lines)


def _grouped(outcomes: dict[int, Outcome]) -> Iterator[_Group]:
    """Jobs of one error together, in the order of their first; all others by themselves."""
    groups: dict[object, dict[int, Outcome]] = {}
    for number, outcome in outcomes.items():
        has_error = outcome.state in _LISTED and outcome.messages
        key = (outcome.state, tuple(outcome.messages)) if has_error else number
        groups.setdefault(key, {})[number] = outcome
    yield from map(_Group, groups.values())


def _format_group(group: _Group, above: Collection[tuple[str, ...]]) -> str:
    first = group.jobs[group.first]
    printed = tuple(first.messages) in above
    messages = [f"its error is printed above, at job #{group.first}"] if printed else list(first.messages)
    if len(group.jobs) == 1:
        return format_outcome(first, messages)
    words = {number: each.run.split(" ") for number, each in group.jobs.items()}
    shared = [word for word in words[group.first] if all(word in others for others in words.values())]
    head = f"{first.state}: {len(group.jobs)} jobs with the same error: {' '.join(shared)}".rstrip(": ")
    for number, each in group.jobs.items():
        own = " ".join(word for word in words[number] if word not in shared)
        messages.append(f"#{number} {own}".rstrip() + (f": its traceback: {each.traceback}" if each.traceback else ""))
    return "\n    ".join([head, *messages])


def _total(outcomes: Sequence[Outcome], to_train: int, runs_dir: Path) -> str:
    kind = f"earlier runs of the same model, adaptation and input side in {runs_dir}"
    costs = [(each.seconds, each.mib) for each in outcomes if each.seconds is not None and each.mib is not None]
    if not costs:
        return f"their run time is unknown: there are no {kind}"
    seconds, mib = map(sum, zip(*costs, strict=True))
    total = f"about {rounded(seconds / 3600, 2)} hours in one process and {rounded(mib)} MiB"
    return f"{total} for {len(costs)} of {to_train} to train, by {kind}"
