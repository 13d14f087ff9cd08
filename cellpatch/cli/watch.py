"""Show the runs of a folder while they are trained: cellpatch watch [RUNS]."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from cellpatch.cli.each_run import exit_if_unreadable


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="cellpatch watch",
        description="Show which runs are training, interrupted, failed or done, until Ctrl-C.",
    )
    parser.add_argument("runs_dir", metavar="RUNS", nargs="?", default=Path("runs"), type=Path, help="a folder of runs")
    show(parser.parse_args(arguments).runs_dir)


def show(runs_dir: Path) -> None:
    """Show the folder's runs until Ctrl-C."""
    from cellpatch.sweeps.status import watch  # Hydra takes a second to import

    try:
        with suppress(KeyboardInterrupt):
            exit_if_unreadable(watch(runs_dir, Console()))
    except ValueError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
