"""Check stored runs: cellpatch verify [RUNS ...]; python -m cellpatch.runs RUNS --verify does the same."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="cellpatch verify",
        description="Check every run's record, files, identity and metrics; ends with status 1 if there is a problem.",
    )
    parser.add_argument("runs", nargs="*", default=[Path("runs")], type=Path, help="folders of runs, or runs")
    print_problems(parser.parse_args(arguments).runs)


def print_problems(paths: Sequence[Path]) -> None:
    """Print each problem and their number; ends the command with status 1 if there is one."""
    from cellpatch.runs.verify import run_folders, verify  # SciPy takes half a second to import

    try:
        problems = verify(*paths)
        checked = len(run_folders(*paths))
    except ValueError as error:
        sys.exit(f"error: {error}")
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    print("\n".join([*problems, f"{checked} runs in {name_paths(paths)}, {count} found"]))
    if problems:
        sys.exit(1)


def name_paths(paths: Sequence[Path]) -> str:
    """The path, or the number of several."""
    return str(paths[0]) if len(paths) == 1 else f"{len(paths)} paths"


if __name__ == "__main__":
    main()
