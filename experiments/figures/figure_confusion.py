"""Which classes are taken for which? Confusion matrices of the best model from scratch and the best pretrained one.

    cellpatch figures runs figure_confusion          # or: make figure_confusion RUNS=runs

On clean test cells, summed over seeds; shares of the true class.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from cellpatch.analysis.curves import best_of_both, learning_curves
from cellpatch.analysis.groups import SeedGroup
from cellpatch.analysis.labels import by_label
from cellpatch.cli.figures import main_of_figure
from cellpatch.figures.captions import axis_label, sample_size_caption
from cellpatch.figures.plotting import PAGE_MM, Drawing, add_title_and_legend, add_tooltip, new_figure, styled
from cellpatch.optics.conditions import CLEAN


@styled
def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """A panel a model, at its largest limit: rows are true classes, columns predicted ones."""
    curves = best_of_both(by_label(learning_curves(groups), groups))
    leaders = {label: curve.groups[-1] for label, curve in curves.items()}
    classes = groups[0].runs[0].record.classes
    figure, axes = new_figure(PAGE_MM, 70 + 3 * len(classes), columns=len(leaders), sharey=True)
    for ax, (label, group) in zip(axes, leaders.items(), strict=True):
        counts = sum(run.confusions[CLEAN].sum(axis=0) for run in group.runs)
        _draw_matrix(ax, counts, classes, label)
        cells = groups[0].runs[0].confusions[CLEAN].sum(axis=(0, 2))
        ax.set_yticks(
            range(len(classes)), [f"{axis_label(name)} ({n})" for name, n in zip(classes, cells, strict=True)]
        )
        ax.set_title(f"{label}\nflag_limit {group.coordinates.flag_limit}", fontsize=7)
        ax.set_xlabel("named")
    axes[0].set_ylabel("true")
    add_title_and_legend(figure, data)
    caption = f"Confusions on clean test cells in percent of the true class (n), summed over seeds, {data}. "
    sizes = sample_size_caption(list(leaders.values()), groups, intervals="")
    return Drawing("figure_confusion", figure, caption + sizes)


def _draw_matrix(ax: Axes, counts: Int[np.ndarray, "classes classes"], classes: Sequence[str], label: str) -> None:
    """Shares of the true class, a tooltip each."""
    true = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, true, out=np.full(counts.shape, np.nan), where=true > 0)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ax.grid(visible=False)
    ax.set_xticks(range(len(classes)), list(map(axis_label, classes)), rotation=90)
    for row, column in np.ndindex(shares.shape):
        share = shares[row, column]
        if np.isfinite(share):
            mark: Artist
            if len(classes) <= 16:
                ink = "white" if share > 0.6 else "0.15"
                mark = ax.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=6, color=ink)
            else:  # numbers would touch; an all but transparent square still carries a tooltip
                mark = ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, color=(1, 1, 1, 0.004)))
            add_tooltip(mark, f"{label}: {100 * share:.1f} % of {classes[row]} were predicted as {classes[column]}")


if __name__ == "__main__":
    main_of_figure(draw)
