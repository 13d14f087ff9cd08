"""A command that does the same for each of several runs: an error ends one of them, not the others."""

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from cellpatch.runs.folders import require_runs
from cellpatch.runs.readable import count_unreadable, describe_problem


def runs_of(paths: Sequence[Path]) -> list[Path]:
    """The runs that a command names, as `require_runs`; ends the command if there are none."""
    try:
        return require_runs(paths)
    except ValueError as error:
        sys.exit(f"error: {error}")


def exit_if_unreadable(problems: Sequence[str]) -> None:
    """Print each run that could not be read, and their number; ends the command with status 1 if there is one."""
    if problems:
        print("\n".join([*(f"error: {problem}" for problem in problems), count_unreadable(problems)]), file=sys.stderr)
        sys.exit(1)


def for_each_run(runs: Iterable[Path], work: Callable[[Path], bool]) -> None:
    """Do the work on each run; its errors are printed, and the rest continues.

    Ends the command with status 1 if there was an error, or if `work` returned False for a run.
    """
    complete = True
    for run in runs:
        try:
            complete = work(run) and complete
        except (ValueError, OSError) as error:
            print(f"error: {describe_problem(run.name, error)}", file=sys.stderr)
            complete = False
    if not complete:
        sys.exit(1)
