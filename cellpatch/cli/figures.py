"""The command line of figure and table scripts: `python SCRIPT RUNS [RUNS ...]`."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from cellpatch.analysis.groups import SeedGroup, data_sets, group_by_seed
from cellpatch.analysis.results import read_results
from cellpatch.figures.plotting import Draw, draw_one, save
from cellpatch.figures.tables import ShownTable, write_tables


def figure_main(write: Callable[[Sequence[Path]], list[Path]]) -> None:
    """Write figures or tables of the runs, folders of runs or packed runs that the command names; print their files."""
    if len(sys.argv) < 2:
        sys.exit(f"usage: python {sys.argv[0]} RUNS [RUNS ...]")
    try:
        files = write([Path(argument) for argument in sys.argv[1:]])
    except ValueError as error:
        sys.exit(f"error: {error}")
    print("\n".join(map(str, files)))


def main_of_figure(draw: Draw) -> None:
    """The command of a figure: draw it for each data set of the runs."""

    def draw_each(runs: Sequence[Path]) -> list[Path]:
        by_data = data_sets(group_by_seed(read_results(*runs)))
        return [file for data in by_data for file in save(draw_one(draw, data, by_data))]

    figure_main(draw_each)


def main_of_table(tables: Callable[[Sequence[SeedGroup]], list[ShownTable]]) -> None:
    """The command of a table script: write its tables for each data set of the runs."""

    def write_each(runs: Sequence[Path]) -> list[Path]:
        by_data = data_sets(group_by_seed(read_results(*runs)))
        return [file for data, groups in by_data.items() for file in write_tables(tables(groups), data)]

    figure_main(write_each)
