"""Check stored runs: cellpatch verify [RUNS ...]; python -m cellpatch.runs RUNS --verify does the same."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cellpatch.cli.each_run import runs_of


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="cellpatch verify",
        description="Check every run's record, files, identity and metrics; ends with status 1 if there is a problem.",
    )
    parser.add_argument("runs", nargs="*", default=[Path("runs")], type=Path, help="folders of runs, or runs")
    print_problems(parser.parse_args(arguments).runs)


def print_problems(paths: Sequence[Path]) -> None:
    """Print each problem and their number; ends the command with status 1 if there is one, or if there are no runs."""
    from cellpatch.runs.verify import verify_runs  # SciPy takes half a second to import

    folders = runs_of(paths)
    problems = verify_runs(folders)
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    print("\n".join([*problems, f"{len(folders)} runs in {name_paths(paths)}, {count} found"]))
    if problems:
        sys.exit(1)


def name_paths(paths: Sequence[Path]) -> str:
    """The path, or the number of several."""
    return str(paths[0]) if len(paths) == 1 else f"{len(paths)} paths"


if __name__ == "__main__":
    main()
