"""How our commands end when the user has something to mend."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from omegaconf import DictConfig

Done = TypeVar("Done")


def guard(work: Callable[[DictConfig], Done], config: DictConfig) -> Done:
    """Do the work; a ValueError ends the command with its message, without a stack of calls."""
    try:
        return work(config)
    except ValueError as error:
        sys.exit(f"error: {error}")


def from_runs(write: Callable[[Path], list[Path]]) -> None:
    """The main of a figure or table: make it of the runs directory that the command names and print its files."""
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} RUNS_DIR")
    try:
        files = write(Path(sys.argv[1]))
    except ValueError as error:
        sys.exit(f"error: {error}")
    print("\n".join(map(str, files)))
