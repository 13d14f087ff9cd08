"""Which model finds which class? F1 of each class, of all models, as a table of colours.

    cellpatch figures runs figure_class_f1          # or: make figure_class_f1 RUNS=runs

On clean test cells at the flag_limit that most models have; means over seeds. Models by falling macro-F1, classes by
falling number of test cells. The last row is always naming the largest class.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from cellpatch.analysis.baselines import largest_class
from cellpatch.analysis.groups import SeedGroup, at_one_limit, limit_of
from cellpatch.analysis.labels import by_label
from cellpatch.cli.figures import main_of_figure
from cellpatch.figures.captions import axis_label, missing_groups_caption, sample_size_caption
from cellpatch.figures.plotting import PAGE_MM, Drawing, add_title, add_tooltip, new_figure, styled
from cellpatch.metrics.scores import class_f1, macro_f1
from cellpatch.optics.conditions import CLEAN

LABELS_MM, CLASS_MM, MODEL_MM = 50, 11, 5  # width of the labels at the left and of a class, height of a model


@styled
def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """A row a model, a column a class that has test cells; each number has a tooltip."""
    chosen = by_label(at_one_limit(groups), groups)
    order = sorted(chosen, key=lambda label: -chosen[label].estimate(CLEAN, macro_f1).mean)
    run = groups[0].runs[0]
    true, classes = run.confusions[CLEAN].sum(axis=(0, 2)), run.record.classes
    codes = [int(code) for code in np.argsort(-true, kind="stable") if true[code] > 0]
    scores = scores_by_class([chosen[label] for label in order], codes)
    rule = largest_class(list(chosen.values()), macro_f1)
    of_rule = [largest_class(list(chosen.values()), class_f1(code)).score.mean for code in codes]
    names, table = [*order, rule.label], np.vstack([scores, of_rule])
    width = min(PAGE_MM, LABELS_MM + CLASS_MM * len(codes))
    longest = max(map(len, classes))
    figure, [ax] = new_figure(width, 18 + MODEL_MM * len(names) + min(26, longest) * 1.2)
    ax.imshow(table, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    ax.grid(visible=False)
    for row, column in np.ndindex(table.shape):
        ink = "white" if table[row, column] > 0.6 else "0.15"
        text = ax.text(column, row, f"{table[row, column]:.2f}", ha="center", va="center", fontsize=6, color=ink)
        add_tooltip(text, f"{names[row]}: F1 of {classes[codes[column]]} {table[row, column]:.3f}")
    ax.set_yticks(range(len(names)), names, fontsize=7)
    ax.set_xticks(range(len(codes)), [f"{axis_label(classes[c])} ({true[c]})" for c in codes], rotation=90, fontsize=7)
    add_title(figure, f"{data}, flag_limit {limit_of(chosen)}")
    caption = f"F1 of each class (with its test cells), {data}; means over seeds, models by falling macro-F1. "
    sizes = sample_size_caption(list(chosen.values()), groups, intervals="")
    return Drawing("figure_class_f1", figure, caption + sizes + missing_groups_caption("Not drawn", chosen, groups))


def scores_by_class(groups: Sequence[SeedGroup], codes: Sequence[int]) -> Float[np.ndarray, "groups codes"]:
    """Mean F1 over seeds on clean cells."""
    return np.array([[group.estimate(CLEAN, class_f1(code)).mean for code in codes] for group in groups])


if __name__ == "__main__":
    main_of_figure(draw)
