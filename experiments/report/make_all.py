"""All figures and tables that runs allow, and why the others are missing.

    python experiments/report/make_all.py runs figures tables      # or: make figures, make tables, make paper

Each is also a script of its own. Ends with status 1 if nothing could be made.
"""

import argparse
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from types import ModuleType

from cellpatch.analysis.groups import SeedGroup, data_sets, group_by_seed
from cellpatch.analysis.results import read_results
from cellpatch.figures.plotting import draw_one, save
from cellpatch.figures.tables import write_tables

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


def scripts(kind: str) -> dict[str, ModuleType]:
    """The scripts of a folder of KINDS by name.

    A figure has `draw(data, groups) -> Drawing`. A table has `tables(groups) -> list[ShownTable]` and their CAPTIONS.
    Both raise ValueError where the runs do not allow them.
    """
    return {file.stem: load(file) for file in sorted((EXPERIMENTS / kind).glob("*.py"))}


def make(by_data: Mapping[str, Sequence[SeedGroup]], kind: str) -> Iterator[tuple[str, list[Path] | ValueError]]:
    """Each script's name with the files that it wrote, or with why it could not."""
    for (name, script), data in product(scripts(kind).items(), by_data):
        try:
            if kind == "figures":
                yield name, save(draw_one(script.draw, data, by_data))
            else:
                yield name, write_tables(script.tables(by_data[data]), data)
        except ValueError as error:
            yield f"{name} of {data}", error


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python experiments/report/make_all.py", description="Make all figures and tables."
    )
    parser.add_argument("runs", nargs="+", metavar="RUNS", help="folders of runs, runs, or packed runs")
    parser.add_argument("kinds", nargs="+", metavar="KIND", help=f"of {', '.join(KINDS)}")
    words = parser.parse_args()
    given = [*words.runs, *words.kinds]
    kinds = [word for word in given if word in KINDS]
    runs = [Path(word) for word in given if word not in KINDS]
    if not kinds or not runs:
        parser.error(f"RUNS and one of {', '.join(KINDS)} are needed, but got {' '.join(given)}")
    files: list[Path] = []
    missing: list[str] = []
    try:
        by_data = data_sets(group_by_seed(read_results(*runs)))
        for kind in kinds:
            for name, made in make(by_data, kind):
                if isinstance(made, ValueError):
                    missing.append(f"not made: {name}: {made}")
                else:
                    files += made
    except ValueError as error:
        sys.exit(f"error: {error}")
    print("\n".join([*map(str, files), *missing]))
    sys.exit(0 if files else 1)


if __name__ == "__main__":
    main()
