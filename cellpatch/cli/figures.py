"""The command line of figure and table scripts: `python SCRIPT RUNS [RUNS ...]`."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from cellpatch.analysis.groups import SeedGroup, data_sets, group_by_seed
from cellpatch.analysis.results import read_results
from cellpatch.analysis.run_result import RunResult
from cellpatch.cli.selection import add_options, selection_of
from cellpatch.figures.plotting import Draw, draw_one, save
from cellpatch.figures.tables import ShownTable, write_tables


def figure_main(write: Callable[[list[RunResult]], list[Path]], prog: str | None = None) -> None:
    """Write figures or tables of the runs, folders of runs or packed runs that the command names; print their files.

    The script's docstring is what --help explains.
    """
    parser = argparse.ArgumentParser(
        prog, description=sys.modules["__main__"].__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", metavar="RUNS", nargs="+", type=Path, help="folders of runs, runs, or packed runs")
    add_options(parser)
    options = parser.parse_args()
    try:
        files = write(selection_of(options).choose(read_results(*options.runs)))
    except ValueError as error:
        sys.exit(f"error: {error}")
    print("\n".join(map(str, files)))


def main_of_figure(draw: Draw) -> None:
    """The command of a figure: draw it for each data set of the runs."""

    def draw_each(results: list[RunResult]) -> list[Path]:
        by_data = data_sets(group_by_seed(results))
        return [file for data in by_data for file in save(draw_one(draw, data, by_data))]

    figure_main(draw_each)


def main_of_table(tables: Callable[[Sequence[SeedGroup]], list[ShownTable]]) -> None:
    """The command of a table script: write its tables for each data set of the runs."""

    def write_each(results: list[RunResult]) -> list[Path]:
        by_data = data_sets(group_by_seed(results))
        return [file for data, groups in by_data.items() for file in write_tables(tables(groups), data)]

    figure_main(write_each)
