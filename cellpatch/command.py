"""How our commands end when the user has something to mend."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from cellpatch.publish import replacing

log = logging.getLogger(__name__)


def guard(work: Callable[[DictConfig], None], config: DictConfig) -> None:
    """Do the work; a ValueError ends a single command with its message, and fails one job of a multirun."""
    try:
        work(config)
    except ValueError as error:
        if HydraConfig.get().mode == RunMode.RUN:
            sys.exit(f"error: {error}")  # without a stack of calls
        log.error("failed: %s", error)  # Hydra shows the first failure only, at the end
        raise


def write_table(stem: Path, table: pd.DataFrame, markdown: str) -> list[Path]:
    """Write STEM.csv and STEM.md, print the latter, and give the files."""
    print(markdown)
    files = []
    for suffix, content in ((".csv", table.to_csv(index=False)), (".md", markdown + "\n")):
        files.append(stem.with_name(stem.name + suffix))
        with replacing(files[-1]) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return files


def from_runs(write: Callable[[Path], list[Path]]) -> None:
    """The main of a figure or table: make it of the runs directory that the command names and print its files."""
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} RUNS_DIR")
    try:
        files = write(Path(sys.argv[1]))
    except ValueError as error:
        sys.exit(f"error: {error}")
    print("\n".join(map(str, files)))
