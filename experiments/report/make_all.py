"""All figures and tables that runs allow, and of the others why not.

    python experiments/report/make_all.py runs figures tables      # or: make figures, make tables, make paper

Each is also a script of its own. Ends with status 1 if nothing could be made.
"""

import argparse
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from types import ModuleType

from cellpatch.analysis.groups import SeedGroup, data_sets, group_by_seed
from cellpatch.analysis.results import read_results
from cellpatch.figures.plotting import draw_one, save

EXPERIMENTS = Path(__file__).parents[1]
KINDS = ("figures", "tables")  # folders of scripts


def load(file: Path) -> ModuleType:
    """A script as a module, loaded once."""
    loaded = sys.modules.get(file.stem)
    if loaded is not None and getattr(loaded, "__file__", None) == str(file):
        return loaded
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[file.stem] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def makers(what: str) -> dict[str, Callable]:
    """By name, what draws each figure, or writes each table."""
    entry = {"figures": "draw", "tables": "write"}[what]
    return {file.stem: getattr(load(file), entry) for file in sorted((EXPERIMENTS / what).glob("*.py"))}


def make(by_data: Mapping[str, Sequence[SeedGroup]], what: str) -> Iterator[tuple[str, list[Path] | ValueError]]:
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
    parser = argparse.ArgumentParser(
        prog="python experiments/report/make_all.py", description="Make all figures and tables."
    )
    parser.add_argument("runs_dir", type=Path, help="a runs directory, or packed runs")
    parser.add_argument("what", nargs="+", choices=list(KINDS))
    options = parser.parse_args()
    made, lacking = [], []
    try:
        by_data = data_sets(group_by_seed(read_results(options.runs_dir)))
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
