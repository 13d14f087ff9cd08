"""Which classes are taken for which? Confusion matrices of the best model from scratch and the best pretrained one.

    python experiments/figure_confusion.py runs          # or: make figure_confusion RUNS=runs

On clean test cells, summed over seeds; shares of the true class.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
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
    """A panel a model, at its largest limit: rows are true classes, columns what was named."""
    leaders = {
        label: curve.groups[-1] for label, curve in best_of_both(by_label(learning_curves(groups), groups)).items()
    }
    classes = groups[0].runs[0].record["classes"]
    cells = groups[0].runs[0].confusions[CLEAN].sum(axis=(0, 2))
    figure, axes = new_figure(PAGE_MM, 70 + 3 * len(classes), columns=len(leaders), sharey=True)
    for place, (label, group) in zip(axes, leaders.items(), strict=True):
        counts = sum(run.confusions[CLEAN].sum(axis=0) for run in group.runs)
        true = counts.sum(axis=1, keepdims=True)
        shares = np.divide(counts, true, out=np.full(counts.shape, np.nan), where=true > 0)
        place.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        place.grid(visible=False)
        place.set_xticks(range(len(classes)), list(map(axis_label, classes)), rotation=90)
        place.set_yticks(
            range(len(classes)), [f"{axis_label(name)} ({n})" for name, n in zip(classes, cells, strict=True)]
        )
        for row, column in np.ndindex(shares.shape):
            share = shares[row, column]
            if np.isfinite(share):
                ink = "white" if share > 0.6 else "0.15"
                told_at: Artist
                if len(classes) <= 16:
                    told_at = place.text(
                        column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=6, color=ink
                    )
                else:  # numbers would touch; what is all but transparent is still pointed at
                    told_at = place.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, color=(1, 1, 1, 0.004)))
                add_tooltip(told_at, f"{label}: {100 * share:.1f} % of {classes[row]} were named {classes[column]}")
        place.set_title(f"{label}\nflag_limit {group.place['flag_limit']}", fontsize=7)
        place.set_xlabel("named")
    axes[0].set_ylabel("true")
    add_title_and_legend(figure, data)
    caption = f"Confusions on clean test cells in percent of the true class (n), summed over seeds, {data}. "
    return Drawing(
        "figure_confusion", figure, caption + sample_size_caption(list(leaders.values())).rpartition(";")[0] + "."
    )


if __name__ == "__main__":
    main_of_figure(draw)
