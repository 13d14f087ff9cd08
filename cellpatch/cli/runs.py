"""Command runs."""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from cellpatch.runs.table import table
from cellpatch.runtime.atomic_io import atomic_write


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m cellpatch.runs", description="Print a grid of runs.")
    parser.add_argument("runs_dir", nargs="?", default="runs", type=Path)
    parser.add_argument("--csv", type=Path, help="write the table there")
    parser.add_argument(
        "--verify", action="store_true", help="check every run's record, files, identity and metrics instead"
    )
    parser.add_argument("--watch", action="store_true", help="show what is running, cut off, failed and done instead")
    options = parser.parse_args(arguments)
    try:
        if options.watch:
            from cellpatch.sweeps.status import watch  # it reads what this module writes

            watch(options.runs_dir, Console())
            return
        if options.verify:
            from cellpatch.runs.verify import (
                run_folders,
                verify,  # they read what this module writes
            )

            problems, checked = verify(options.runs_dir), len(run_folders(options.runs_dir))
            print(
                "\n".join([*problems, f"{checked} runs in {options.runs_dir}, {len(problems)} things not as written"])
            )
            sys.exit(1 if problems else 0)
        grid = table(options.runs_dir)
    except ValueError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        return
    print(grid.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    print(f"{grid['run'].nunique()} runs in {options.runs_dir}")
    for file in sorted((options.runs_dir / ".failed").glob("[!.]*.log")):
        print(f"failed: {file.stem}: {file.read_text(encoding='utf-8').splitlines()[-1]}")
    if options.csv:
        with atomic_write(options.csv) as temporary:
            grid.to_csv(temporary, index=False)


if __name__ == "__main__":
    main()
