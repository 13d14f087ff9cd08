"""What do faults of the image other than blur cost? Change in macro-F1 against the strength, a panel a fault.

    cellpatch train -m ... optics=faults          # evaluates runs that exist under faults, without training them again
    cellpatch figures runs figure_robustness          # or: make figure_robustness RUNS=runs

At the flag_limit that most models have. Changes are from clean cells, paired by seed and specimen.
"""

from collections.abc import Sequence

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
from cellpatch.optics.conditions import FAULTS

ACROSS, LABELLED = 3, 6  # panels beside each other; models up to which each panel names its curves


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
        strengths = sorted(condition.sigma for condition in conditions if condition.kind == kind)
        ax.axhline(0, color="0.4", linewidth=0.6, zorder=0)
        ends.append((ax, [end for label, group in chosen.items() for end in _draw_model(ax, label, group, kind)]))
        ax.set_xticks([0.0, *strengths], ["0", *(f"{strength:g}" for strength in strengths)], fontsize=7)
    for ax in axes[::ACROSS]:
        ax.set_ylabel("change in macro-F1")
    title = f"{data}, flag_limit {limit_of(chosen)}"
    if len(chosen) > LABELLED:
        add_title_and_legend(figure, title)
    else:
        add_title(figure, title)
        label_ends(figure, ends)
    caption = f"Change in macro-F1 under faults of the image other than blur, by their strength, {data}. "
    caption += sample_size_caption(list(chosen.values()), groups)
    caption += missing_groups_caption("Not evaluated under faults", chosen, groups)
    return Drawing("figure_robustness", figure, caption)


def _draw_model(ax: Axes, label: str, group: SeedGroup, kind: str) -> list[End]:
    """The curve of a model under a fault, 0 on clean cells; gives its last point, none without the fault."""
    conditions = [condition for condition in group.fault_conditions() if condition.kind == kind]
    if not conditions:
        return []
    strengths = [0.0, *(condition.sigma for condition in conditions)]
    changes = [(0.0, 0.0, 0.0), *(change_under(group, condition).summary() for condition in conditions)]
    words = ["clean", *(condition.words for condition in conditions)]
    texts = [f"{each}, macro-F1 {format_ci(*at, sign='+')}" for each, at in zip(words, changes, strict=True)]
    draw_curve(ax, strengths, changes, label, texts, group.coordinates)
    return [End(strengths[-1], changes[-1][0], label, group_style(group.coordinates).color)]


if __name__ == "__main__":
    main_of_figure(draw)
