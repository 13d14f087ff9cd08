"""Several runs, of which some may be unreadable: those are listed with their reasons, never left out in silence."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from cellpatch.runs.stored_run import StoredRun

Run_co = TypeVar("Run_co", covariant=True)
_WHAT_TO_DO = "move them elsewhere, or restore them from a copy; cellpatch verify checks all runs of a folder"


@dataclass(frozen=True)
class Readable(Generic[Run_co]):
    """The runs that could be read, and a line for each other one."""

    runs: Sequence[Run_co]
    problems: Sequence[str]

    def all_runs(self) -> Sequence[Run_co]:
        """The runs; raises ValueError that lists every one that could not be read."""
        if self.problems:
            raise ValueError(f"{count_unreadable(self.problems)}; {_WHAT_TO_DO}:\n  " + "\n  ".join(self.problems))
        return self.runs


def read_each(folders: Iterable[Path], read: Callable[[Path], Run_co]) -> Readable[Run_co]:
    """What `read` gives of each run; what it raises, ValueError or OSError, becomes the run's line."""
    runs, problems = [], []
    for folder in folders:
        try:
            runs.append(read(folder))
        except (ValueError, OSError) as error:
            problems.append(describe_problem(folder.name, error))
    return Readable(runs, problems)


def open_each(folders: Iterable[Path]) -> Readable[StoredRun]:
    """Stored runs, each with its record."""
    return read_each(folders, StoredRun.open)


def describe_problem(run: str, error: Exception) -> str:
    """One line that names the run and what is wrong with it."""
    text = " ".join(str(error).split("\n"))
    return text if run in text else f"{run}: {text}"


def count_unreadable(problems: Sequence[str]) -> str:
    """How many runs could not be read."""
    return "1 run cannot be read" if len(problems) == 1 else f"{len(problems)} runs cannot be read"
