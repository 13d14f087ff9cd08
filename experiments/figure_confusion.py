"""Which classes are taken for which? Confusion matrices of the best model from scratch and the best pretrained one.

    python experiments/figure_confusion.py runs          # or: make figure_confusion RUNS=runs

On clean test cells, summed over seeds; shares of the true class.
"""

from collections.abc import Sequence

import numpy as np
from figure_classes import best_of_both
from matplotlib.artist import Artist
from matplotlib.patches import Rectangle

from cellpatch.captions import labelled, on_axis, told
from cellpatch.conditions import CLEAN
from cellpatch.curves import curves
from cellpatch.groups import Group
from cellpatch.plotting import PAGE_MM, Drawing, draw_from, finish, new_figure, styled, tip


@styled
def draw(data: str, groups: Sequence[Group]) -> Drawing:
    """A panel a model, at its largest limit: rows are true classes, columns what was named."""
    leaders = {label: curve.groups[-1] for label, curve in best_of_both(labelled(curves(groups), groups)).items()}
    classes = groups[0].runs[0].record["classes"]
    cells = groups[0].runs[0].confusions[CLEAN].sum(axis=(0, 2))
    figure, axes = new_figure(PAGE_MM, 70 + 3 * len(classes), columns=len(leaders), sharey=True)
    for place, (label, group) in zip(axes, leaders.items(), strict=True):
        counts = sum(run.confusions[CLEAN].sum(axis=0) for run in group.runs)
        true = counts.sum(axis=1, keepdims=True)
        shares = np.divide(counts, true, out=np.full(counts.shape, np.nan), where=true > 0)
        place.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        place.grid(visible=False)
        place.set_xticks(range(len(classes)), list(map(on_axis, classes)), rotation=90)
        place.set_yticks(
            range(len(classes)), [f"{on_axis(name)} ({n})" for name, n in zip(classes, cells, strict=True)]
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
                tip(told_at, f"{label}: {100 * share:.1f} % of {classes[row]} were named {classes[column]}")
        place.set_title(f"{label}\nflag_limit {group.place['flag_limit']}", fontsize=7)
        place.set_xlabel("named")
    axes[0].set_ylabel("true")
    finish(figure, data)
    caption = f"Confusions on clean test cells in percent of the true class (n), summed over seeds, {data}. "
    return Drawing("figure_confusion", figure, caption + told(list(leaders.values())).rpartition(";")[0] + ".")


if __name__ == "__main__":
    draw_from(draw)
