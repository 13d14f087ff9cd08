"""The command `cellpatch pack`: pack runs into one small file."""

import argparse
import sys
from pathlib import Path

from cellpatch.analysis.packed_results import pack
from cellpatch.analysis.results import read_results
from cellpatch.cli.selection import add_options, selection_of
from cellpatch.runtime.numbers import rounded


def main() -> None:
    parser = argparse.ArgumentParser(prog="cellpatch pack", description="Pack runs into one small file.")
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs, or runs")
    parser.add_argument("file", type=Path, help="what to write, ending in .parquet")
    add_options(parser)
    options = parser.parse_args()
    try:
        results = selection_of(options).choose(read_results(*options.runs))
        pack(results, options.file)
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(f"{len(results)} runs in {options.file}, {rounded(options.file.stat().st_size / 1e6, 2)} MB")


if __name__ == "__main__":
    main()
