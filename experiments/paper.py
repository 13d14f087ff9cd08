"""All figures and tables that runs allow, and of the others why not.

    python experiments/paper.py runs figures tables      # or: make figures, make tables, make paper

Each is also a script of its own. Ends with status 1 if nothing could be made.
"""

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from cellpatch.groups import data_sets, grouped
from cellpatch.plotting import draw_each, save
from cellpatch.results import read_results

HERE = Path(__file__).parent
PATTERNS = {"figures": "figure*.py", "tables": "*_table.py"}


def makers(what: str) -> dict[str, Callable]:
    """By name, what draws each figure, or writes each table."""
    entry = {"figures": "draw", "tables": "write"}[what]
    names = sorted(file.stem for file in HERE.glob(PATTERNS[what]))
    return {name: getattr(importlib.import_module(name), entry) for name in names}


def make(place: Path, what: str) -> Iterator[tuple[str, list[Path] | ValueError]]:
    """Each figure or table with the files that it is in, or with what it lacks."""
    by_data = data_sets(grouped(read_results(place)))
    for name, maker in makers(what).items():
        try:
            if what == "figures":
                yield name, [file for drawing in draw_each(maker, by_data) for file in save(drawing)]
            else:
                yield name, maker(place)
        except ValueError as error:
            yield name, error


def main() -> None:
    parser = argparse.ArgumentParser(prog="python experiments/paper.py", description="Make all figures and tables.")
    parser.add_argument("runs_dir", type=Path, help="a runs directory, or packed runs")
    parser.add_argument("what", nargs="+", choices=list(PATTERNS))
    options = parser.parse_args()
    made, lacking = [], []
    try:
        for what in options.what:
            for name, found in make(options.runs_dir, what):
                if isinstance(found, ValueError):
                    lacking.append(f"not made: {name}: {found}")
                else:
                    made += found
    except ValueError as error:
        sys.exit(f"error: {error}")
    print("\n".join([*map(str, made), *lacking]))
    sys.exit(0 if made else 1)


if __name__ == "__main__":
    main()
