"""In what two stored runs differ: cellpatch diff RUN RUN."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cellpatch.runs.differences import differences, format_differences
from cellpatch.runs.folders import require_runs
from cellpatch.runs.stored_run import StoredRun


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="cellpatch diff", description="Settings, data and code in which two runs differ, a line each: KEY: A | B."
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="two runs, or a folder that holds two")
    options = parser.parse_args(argv)
    try:
        folders = require_runs(options.runs)
        if len(folders) == 1 and len(options.runs) == 2:
            raise ValueError(f"two runs are compared, but both names are the same run: {folders[0]}")
        if len(folders) != 2:
            found = ", ".join(map(str, folders[:3])) + (", ..." if len(folders) > 3 else "")
            raise ValueError(f"two runs are compared, but got {len(folders)} ({found}): name two run folders")
        first, second = (StoredRun.open(folder) for folder in folders)
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(f"run: {first.name} | {second.name}")
    print("\n".join(format_differences(differences(first.record, second.record))))


if __name__ == "__main__":
    main()
