"""Command figures."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from cellpatch.analysis.groups import SeedGroup, data_sets, group_by_seed
from cellpatch.analysis.results import read_results
from cellpatch.figures.plotting import Draw, draw_one, save


def figure_main(write: Callable[[Path], list[Path]]) -> None:
    """The main of a figure or table: make it of the runs directory that the command names and print its files."""
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} RUNS_DIR")
    try:
        files = write(Path(sys.argv[1]))
    except ValueError as error:
        sys.exit(f"error: {error}")
    print("\n".join(map(str, files)))


def main_of_figure(draw: Draw) -> None:
    """The main of a figure: draw it for each data set of the runs directory, or packed runs, that the command names."""

    def save_all(place: Path) -> list[Path]:
        by_data = data_sets(group_by_seed(read_results(place)))
        return [file for data in by_data for file in save(draw_one(draw, data, by_data))]

    figure_main(save_all)


def main_of_table(write: Callable[[str, Sequence[SeedGroup]], list[Path]]) -> None:
    """The main of a table: write it for each data set of the runs directory, or packed runs, that the command names."""

    def write_each(place: Path) -> list[Path]:
        by_data = data_sets(group_by_seed(read_results(place)))
        return [file for data, groups in by_data.items() for file in write(data, groups)]

    figure_main(write_each)
