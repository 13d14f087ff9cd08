"""How many cells of each class are there, and how many does each flag_limit train on?

    cellpatch figures runs figure_counts          # or: make figure_counts RUNS=runs

The limit is a cap: at the largest one most classes are used whole, and the training set is unbalanced.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from cellpatch.analysis.groups import SeedGroup
from cellpatch.cli.figures import main_of_figure
from cellpatch.figures.captions import axis_label, synthetic_prefix
from cellpatch.figures.plotting import Drawing, add_title_and_legend, add_tooltip, log_axis, new_figure, styled
from cellpatch.optics.conditions import CLEAN

TEST = "#D55E00"
CLOSE = 1.4  # a factor of cells
NAME: dict[str, Any] = {"xytext": (0, 7), "textcoords": "offset points", "rotation": 50, "fontsize": 6.5}


@styled
def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """A row a class: its test cells, and its training cells at each limit, on a log axis."""
    run = groups[0].runs[0]
    true = run.confusions[CLEAN].sum(axis=(0, 2))
    classes = run.record.classes
    by_limit = {group.coordinates.flag_limit: group.runs[0].record.counts["train"] for group in groups}
    order = sorted(range(len(classes)), key=lambda code: by_limit[max(by_limit)].get(classes[code], 0))
    figure, [ax] = new_figure(height_mm=55 + 6 * len(classes))
    shades = np.linspace(0.75, 0.1, len(by_limit))
    for shade, limit in zip(shades, sorted(by_limit), strict=True):
        for row, code in enumerate(order):
            n = by_limit[limit].get(classes[code], 0)
            [point] = ax.plot([max(n, 0.5)], [row], "o", color=str(shade), markersize=4)
            add_tooltip(point, f"{classes[code]}: {n} training cells at flag_limit {limit}")
    for row, code in enumerate(order):
        [point] = ax.plot([max(true[code], 0.5)], [row], "|", color=TEST, markersize=9)
        add_tooltip(point, f"{classes[code]}: {true[code]} test cells")
    log_axis(ax)
    _name_marks(ax, len(order) - 1, {limit: counts.get(classes[order[-1]], 0) for limit, counts in by_limit.items()})
    ax.annotate(
        "test", (max(true[order[-1]], 0.5), len(order) - 1), color=TEST, **NAME | {"xytext": (3, -9), "rotation": 0}
    )
    ax.set_yticks(range(len(order)), [axis_label(classes[code]) for code in order])
    ax.set_xlabel("cells")
    add_title_and_legend(figure, data)
    caption = (
        f"Cells of each class, {data}: in training at each flag_limit (dots, named above; one seed), and in the "
        f"test, {true.sum()} {synthetic_prefix(groups)}cells in all."
    )
    complete = all(true) and all(counts.get(name) for counts in by_limit.values() for name in classes)
    return Drawing("figure_counts", figure, caption + ("" if complete else " A mark at one half means zero cells."))


def _name_marks(ax: Axes, row: int, counts: Mapping[int, int]) -> None:
    """Names of the limits above the marks of the highest row; marks too close for two names share one."""
    named: list[tuple[int, list[int]]] = []
    for limit, n in sorted(counts.items()):
        if named and n < CLOSE * named[-1][0]:
            named[-1] = (n, [*named[-1][1], limit])
        else:
            named.append((n, [limit]))
    for n, limits in named:
        ax.annotate(f"limit {', '.join(map(str, limits))}", (max(n, 0.5), row), color="0.2", **NAME)


if __name__ == "__main__":
    main_of_figure(draw)
