"""What do faults of the image other than blur cost? Change in macro-F1 against the strength, a panel a fault.

    cellpatch train -m ... optics=faults          # evaluates runs that exist under faults, without training them again
    cellpatch figures runs figure_robustness          # or: make figure_robustness RUNS=runs

At the flag_limit that most models have. Changes are from clean cells, paired by seed and specimen.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from cellpatch.analysis.groups import SeedGroup, at_one_limit, limit_of, under_faults
from cellpatch.analysis.labels import by_label
from cellpatch.analysis.robustness import change_under
from cellpatch.cli.figures import main_of_figure
from cellpatch.figures.captions import missing_groups_caption, sample_size_caption
from cellpatch.figures.families import End, label_ends
from cellpatch.figures.palette import group_style
from cellpatch.figures.plotting import Drawing, add_title, add_title_and_legend, draw_curve, new_panels, styled
from cellpatch.figures.tables import format_ci
from cellpatch.optics.conditions import FAULTS, Condition, faults_among

ACROSS = 3  # panels beside each other
LABELLED, LETTERS = 6, 14  # curves, and letters of a name, up to which each panel names its curves: else a legend
DODGE = 0.5  # of the distance of two strengths, that the marks of all models share


@styled
def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """Small multiples in the order of FAULTS, on one axis of changes."""
    chosen = by_label(at_one_limit(under_faults(groups)), groups)
    conditions = set().union(*(group.fault_conditions() for group in chosen.values()))
    kinds = [kind for kind in FAULTS if kind in {condition.kind for condition in conditions}]
    titles = [f"{kind.replace('_', ' ')}, {FAULTS[kind].unit}" for kind in kinds]
    figure, axes = new_panels(titles, ACROSS, height_mm=44, rest_mm=16, sharey="all")
    ends = []
    for kind, ax in zip(kinds, axes, strict=True):
        levels = [condition for condition in faults_among(conditions) if condition.kind == kind]
        ax.axhline(0, color="0.4", linewidth=0.6, zorder=0)
        ends.append((ax, _draw_panel(ax, chosen, levels)))
        ax.set_xticks(range(len(levels) + 1), ["0", *(f"{level.sigma:g}" for level in levels)], fontsize=7)
    for ax in axes[::ACROSS]:
        ax.set_ylabel("change in macro-F1")
    title = f"{data}, flag_limit {limit_of(chosen)}"
    if len(chosen) > LABELLED or max(map(len, chosen)) > LETTERS:
        add_title_and_legend(figure, title)
    else:
        add_title(figure, title)
        label_ends(figure, ends)
    caption = f"Change in macro-F1 under faults of the image other than blur, {data}; their strengths stand at equal "
    caption += "distances. "
    caption += sample_size_caption(list(chosen.values()), groups)
    caption += missing_groups_caption("Not evaluated under faults", chosen, groups)
    return Drawing("figure_robustness", figure, caption)


def _draw_panel(ax: Axes, chosen: Mapping[str, SeedGroup], levels: Sequence[Condition]) -> list[End]:
    """A curve a model from 0 on clean cells over the levels of a fault; gives the last point of each."""
    ends = []
    for number, (label, group) in enumerate(chosen.items()):
        has = group.fault_conditions()
        shift = DODGE * ((number + 0.5) / len(chosen) - 0.5)
        x = [0.0, *(place + shift for place in range(1, len(levels) + 1))]
        y = [change_under(group, level).summary() if level in has else (np.nan,) * 3 for level in levels]
        texts = [f"{level.words}, macro-F1 {format_ci(*at, sign='+')}" for level, at in zip(levels, y, strict=True)]
        draw_curve(ax, x, [(0.0, 0.0, 0.0), *y], label, ["clean", *texts], group.coordinates)
        known = [(place, at[0]) for place, at in zip(x[1:], y, strict=True) if np.isfinite(at[0])]
        ends += [End(*point, label, group_style(group.coordinates).color) for point in known[-1:]]
    return ends


if __name__ == "__main__":
    main_of_figure(draw)
