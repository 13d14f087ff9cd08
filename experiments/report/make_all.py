"""All figures and tables that runs allow, and why the others are missing.

    cellpatch figures runs            # or: make figures RUNS=runs; cellpatch tables runs
    cellpatch figures runs figure3    # one of them
    python experiments/report/make_all.py all runs      # or: make paper

Each is also a script of its own. Ends with status 1 if nothing could be made.
"""

import argparse
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from types import ModuleType

from cellpatch.analysis.groups import SeedGroup, data_sets, group_by_seed
from cellpatch.analysis.results import read_results
from cellpatch.cli.selection import add_options, selection_of
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
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[file.stem]
        raise
    return module


def script_files(kind: str) -> dict[str, Path]:
    """The scripts of a folder of KINDS by name."""
    return {file.stem: file for file in sorted((EXPERIMENTS / kind).glob("*.py"))}


def make(
    by_data: Mapping[str, Sequence[SeedGroup]], kind: str, names: Sequence[str] = ()
) -> Iterator[tuple[str, list[Path] | Exception]]:
    """Each script's name with the files that it wrote, or with why it could not; only those of `names`, if any.

    A figure has `draw(data, groups) -> Drawing`, a table `tables(groups) -> list[ShownTable]`. Both raise ValueError
    where the runs do not allow them.
    """
    for name, data in product([name for name in script_files(kind) if name in names or not names], by_data):
        try:
            script = load(script_files(kind)[name])
            if kind == "figures":
                yield name, save(draw_one(script.draw, data, by_data))
            else:
                yield name, write_tables(script.tables(by_data[data]), data)
        except Exception as error:  # a reader's own script may fail in any way; the others are made
            yield f"{name} of {data}", error


def explain(error: Exception) -> str:
    """Why a script made nothing: what the runs lack, or the line where the script itself failed."""
    if isinstance(error, ValueError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"the script failed: {type(error).__name__}: {error}{place}"


def names_among(words: Sequence[str]) -> list[str]:
    """The words that are the name of a script; the others are runs."""
    known = {name for kind in KINDS for name in script_files(kind)}
    return [word for word in words if word in known]


def check_names(kinds: Sequence[str], names: Sequence[str]) -> None:
    """Raise ValueError for a name that no script of these kinds has."""
    known = [name for kind in kinds for name in script_files(kind)]
    if unknown := sorted(set(names) - set(known)):
        raise ValueError(f"{', '.join(unknown)}: must be of {', '.join(known)}")


def older_files(written: Mapping[str, Sequence[Path]]) -> list[Path]:
    """Files of the same figures, for other data sets or of before there were several, that were not written again."""
    found: set[Path] = set()
    for name, files in written.items():
        for folder, suffix in {(file.parent, file.suffix) for file in files}:
            found |= {folder / f"{name}{suffix}", *folder.glob(f"{name}-*{suffix}")} - set(files)
    return sorted(file for file in found if file.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="cellpatch figures",
        usage="cellpatch figures|tables RUNS [RUNS ...] [NAME ...]",
        description="Make all figures or tables that runs allow, or those that are named.",
        epilog="Names: "
        + "; ".join(f"{kind}: {', '.join(script_files(kind))}" for kind in KINDS)
        + ". Files are written to figures/ and tables/ here, with a caption beside each figure.",
    )
    parser.add_argument("kind", choices=[*KINDS, "all"], help=argparse.SUPPRESS)
    parser.add_argument("runs", metavar="RUNS", nargs="+", help="folders of runs, runs, or packed runs")
    parser.add_argument("names", metavar="NAME", nargs="*", help="such as figure3; all if none is given")
    add_options(parser)
    options = parser.parse_args()
    words = [*options.runs, *options.names]
    written: dict[str, list[Path]] = {}
    missing: list[str] = []
    try:
        kinds = KINDS if options.kind == "all" else (options.kind,)
        names = names_among(words)
        check_names(kinds, names)
        results = read_results(*(Path(word) for word in words if word not in names))
        by_data = data_sets(group_by_seed(selection_of(options).choose(results)))
        for kind in kinds:
            for name, made in make(by_data, kind, names):
                if isinstance(made, Exception):
                    missing.append(f"not made: {name}: {explain(made)}")
                else:
                    written.setdefault(name, []).extend(made)
    except ValueError as error:
        sys.exit(f"error: {error}")
    files = [str(file) for made in written.values() for file in made]
    older = [f"left from an earlier command: {file}" for file in older_files(written)]
    print("\n".join([*files, *missing, *older]))
    sys.exit(0 if files else 1)


if __name__ == "__main__":
    main()
