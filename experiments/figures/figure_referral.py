"""What do the surest cells score if a human looks at the rest? Accuracy and macro-F1 against the share that is sent.

    cellpatch figures runs figure_referral          # or: make figure_referral RUNS=runs

At the flag_limit that most models have, clean and under strong blur. Cells with the lowest highest probability are sent
first. Intervals are over specimens and seeds; which cells are sent is the same in all draws. Needs the runs directory:
packed runs hold no probabilities.
"""

from collections.abc import Sequence

from matplotlib.axes import Axes

from cellpatch.analysis.cells import STRONG, compared_conditions, with_cells
from cellpatch.analysis.groups import SeedGroup, at_one_limit, limit_of
from cellpatch.analysis.labels import by_label
from cellpatch.analysis.referral import SHARES, TARGET, rest_curves
from cellpatch.cli.figures import main_of_figure
from cellpatch.figures.captions import missing_groups_caption, sample_size_caption
from cellpatch.figures.families import End, Family, families, label_ends
from cellpatch.figures.plotting import Drawing, add_title, draw_curve, figure_width, new_figure, styled
from cellpatch.figures.tables import format_ci
from cellpatch.metrics.scores import Score, accuracy, macro_f1
from cellpatch.optics.conditions import CLEAN, Condition

Summary = tuple[float, float, float]  # a score and the ends of its interval
ROWS: list[tuple[str, Score, Condition]] = [
    ("accuracy", accuracy, CLEAN),
    ("accuracy", accuracy, STRONG),
    ("macro-F1", macro_f1, CLEAN),
]


@styled
def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """A row a score and condition, a column a family of models; raises ValueError if all runs are packed."""
    chosen = by_label(at_one_limit(with_cells(groups)), groups)
    columns = families({label: group.coordinates for label, group in chosen.items()})
    blurred = [label for label, group in chosen.items() if STRONG in compared_conditions(group)]
    rows = [row for row in ROWS if row[2] == CLEAN or blurred]
    curves = {label: _curves(group) for label, group in chosen.items()}
    width = figure_width(len(columns))
    figure, axes = new_figure(width, 52 * len(rows), len(rows), len(columns), sharex="all", sharey="row")
    add_title(figure, f"{data}, flag_limit {limit_of(chosen)}")
    ends = []
    for row, (title, score, condition) in enumerate(rows):
        for column, family in enumerate(columns):
            ax = axes[row * len(columns) + column]
            shown = {label: chosen[label] for label in family.members if (score, condition) in curves[label]}
            ends.append((ax, _draw_panel(ax, family, shown, title, [curves[each][score, condition] for each in shown])))
            if title == "accuracy":
                ax.axhline(TARGET, color="0.4", linestyle=":", linewidth=1, zorder=0)
            if not row:
                ax.set_title(family.title)
            if row == len(rows) - 1:
                ax.set_xlabel("share sent to a human")
        axes[row * len(columns)].set_ylabel(f"{title} of the rest, test\n{condition}")
    label_ends(figure, ends)
    lacking = [label for label in chosen if blurred and label not in blurred]
    caption = (
        f"Accuracy and macro-F1 of the test cells that are left if the least sure ones are sent to a human, {data}, on "
        f"clean cells{f' and under {STRONG}' if blurred else ''}; dotted: {TARGET}; macro-F1 is over the "
        "classes that are left. "
    )
    n = sample_size_caption(list(chosen.values()), groups)
    gaps = f" Not evaluated under {STRONG}: {'; '.join(lacking)}." if lacking else ""
    return Drawing("figure_referral", figure, caption + n + gaps + missing_groups_caption("Packed", chosen, groups))


def _curves(group: SeedGroup) -> dict[tuple[Score, Condition], list[Summary]]:
    """What is drawn of a group, a point for each of SHARES."""
    asked = [(score, condition) for _, score, condition in ROWS if condition in group.conditions()]
    return {
        (score, condition): [estimate.summary() for estimate in curve.values()]
        for score, condition, curve in rest_curves(group, asked)
    }


def _draw_panel(
    ax: Axes, family: Family, shown: dict[str, SeedGroup], title: str, curves: Sequence[list[Summary]]
) -> list[End]:
    """Draw the curves of a family; gives the last point of each."""
    ends = []
    for (label, group), curve in zip(shown.items(), curves, strict=True):
        member = family.members[label]
        texts = [f"{100 * q:.0f} % sent, {title} {format_ci(*at)}" for q, at in zip(SHARES, curve, strict=True)]
        draw_curve(ax, SHARES, curve, label, texts, group.coordinates, member.style)
        ends.append(End(SHARES[-1], curve[-1][0], member.short, member.style.color))
    return ends


if __name__ == "__main__":
    main_of_figure(draw)
