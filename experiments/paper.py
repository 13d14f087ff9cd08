"""All figures and tables that runs allow, and of the others why not.

    python experiments/paper.py runs figures tables      # or: make figures, make tables, make paper

Each is also a script of its own. Ends with status 1 if nothing could be made.
"""

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path

from cellpatch.groups import Group, data_sets, grouped
from cellpatch.plotting import draw_one, save
from cellpatch.results import read_results

HERE = Path(__file__).parent
PATTERNS = {"figures": "figure*.py", "tables": "*_table.py"}


def makers(what: str) -> dict[str, Callable]:
    """By name, what draws each figure, or writes each table."""
    entry = {"figures": "draw", "tables": "write"}[what]
    names = sorted(file.stem for file in HERE.glob(PATTERNS[what]))
    return {name: getattr(importlib.import_module(name), entry) for name in names}


def make(by_data: Mapping[str, Sequence[Group]], what: str) -> Iterator[tuple[str, list[Path] | ValueError]]:
    """Each figure or table with the files that it is in, or with what it lacks."""
    for (name, maker), data in product(makers(what).items(), by_data):
        try:
            if what == "figures":
                yield name, save(draw_one(maker, data, by_data))
            else:
                yield name, maker(data, by_data[data])
        except ValueError as error:
            yield f"{name} of {data}", error


def main() -> None:
    parser = argparse.ArgumentParser(prog="python experiments/paper.py", description="Make all figures and tables.")
    parser.add_argument("runs_dir", type=Path, help="a runs directory, or packed runs")
    parser.add_argument("what", nargs="+", choices=list(PATTERNS))
    options = parser.parse_args()
    made, lacking = [], []
    try:
        by_data = data_sets(grouped(read_results(options.runs_dir)))
        for what in options.what:
            for name, found in make(by_data, what):
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
