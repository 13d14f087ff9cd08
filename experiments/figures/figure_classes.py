"""Which classes need more annotations? F1 of each class against flag_limit.

    cellpatch figures runs figure_classes          # or: make figure_classes RUNS=runs

Of two curves: the best model from scratch and the best pretrained one, by macro-F1 at their largest limit.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from cellpatch.analysis.curves import LearningCurve, best_of_both, learning_curves
from cellpatch.analysis.groups import SeedGroup
from cellpatch.analysis.labels import by_label
from cellpatch.cli.figures import main_of_figure
from cellpatch.figures.captions import axis_label, missing_runs_caption, sample_size_caption
from cellpatch.figures.plotting import Drawing, add_title_and_legend, draw_curve, new_panels, styled, turn_ticks
from cellpatch.figures.tables import format_ci
from cellpatch.metrics.scores import class_f1
from cellpatch.optics.conditions import CLEAN

ACROSS = 4


@styled
def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """A panel a class that has test cells, with their number and how many cells of it each limit trains on."""
    leaders = best_of_both(by_label(learning_curves(groups), groups))
    limits = sorted({limit for curve in leaders.values() for limit in curve.limits})
    run = groups[0].runs[0]
    true = next(iter(run.confusions.values())).sum(axis=(0, 2))
    classes = [(code, name) for code, name in enumerate(run.record.classes) if true[code] > 0]
    titles = [f"{axis_label(name)}, n = {true[code]}" for code, name in classes]
    figure, axes = new_panels(titles, ACROSS, 42, 20, sharex=True, sharey=True)
    for ax, (code, _) in zip(axes, classes, strict=True):
        for label, curve in leaders.items():
            _draw_class(ax, label, curve, limits, code)
        ax.set_xscale("log", base=2)
    axes[0].set_xticks(limits, list(map(str, limits)))
    axes[0].minorticks_off()
    if len(limits) == 1:  # else each panel scales itself to one point, some off the page
        axes[0].set_xlim(limits[0] / 2, limits[0] * 2)
    for ax in axes[-ACROSS:]:  # the lowest of each column; a label of the figure would lie on the legend
        ax.set_xlabel("flag_limit")
        ax.tick_params(labelbottom=True)
    for ax in axes:
        turn_ticks(ax, len(limits) > 4)
    figure.supylabel("F1, test", fontsize=8)
    add_title_and_legend(figure, data)
    caption = f"F1 of each class against annotations per class, {data}; n: its test cells. "
    caption += sample_size_caption([group for curve in leaders.values() for group in curve.groups], groups)
    run_at = {(label, limit) for label, curve in leaders.items() for limit in curve.limits}
    absent = [name for name, n in zip(run.record.classes, true, strict=True) if n == 0]
    none = f" Without a test cell: {', '.join(absent)}." if absent else ""
    return Drawing("figure_classes", figure, caption + missing_runs_caption(list(leaders), limits, run_at) + none)


def _draw_class(ax: Axes, label: str, curve: LearningCurve, limits: Sequence[int], code: int) -> None:
    """F1 of the class with this code at all limits, NaN where the curve has none."""
    y, texts = [(np.nan,) * 3] * len(limits), [""] * len(limits)
    for group in curve.groups:
        record = group.runs[0].record
        name = record.classes[code]
        n, i = record.counts["train"].get(name, 0), limits.index(group.coordinates.flag_limit)
        y[i] = group.estimate(CLEAN, class_f1(code)).summary()
        texts[i] = f"{name}, F1 {format_ci(*y[i])} with {n} cells of it"
    draw_curve(ax, limits, y, label, texts, curve.coordinates)


if __name__ == "__main__":
    main_of_figure(draw)
