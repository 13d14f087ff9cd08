"""What does a better score cost? Macro-F1 against milliseconds per cell, and the models that none beats in both.

    cellpatch latency runs          # writes a card of latency into each record; let nothing run beside it
    cellpatch figures runs figure2          # or: make figure2 RUNS=runs

At the flag_limit that most models have. Milliseconds are median and quartiles of one cell at a time (batch 1, eager),
from the card of any run of that model, adapt and input side.
"""

from collections.abc import Sequence

from matplotlib.axes import Axes

from cellpatch.analysis.baselines import largest_class
from cellpatch.analysis.estimates import Estimate
from cellpatch.analysis.groups import SeedGroup, at_one_limit, limit_of
from cellpatch.analysis.labels import by_label
from cellpatch.analysis.latency_cards import NO_LATENCY_CARDS, Milliseconds, milliseconds, pareto
from cellpatch.cli.figures import main_of_figure
from cellpatch.figures.captions import missing_groups_caption, sample_size_caption
from cellpatch.figures.families import End, Member, families, label_ends
from cellpatch.figures.plotting import (
    Drawing,
    add_title,
    draw_baseline,
    draw_point,
    figure_width,
    log_axis,
    new_figure,
    styled,
)
from cellpatch.figures.tables import format_ci
from cellpatch.metrics.scores import macro_f1
from cellpatch.optics.conditions import CLEAN
from cellpatch.runtime.numbers import rounded


@styled
def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """Macro-F1 against milliseconds on a log axis, with the Pareto front."""
    chosen = by_label(at_one_limit(groups), groups)
    costs, machine = milliseconds(chosen, groups)
    if not costs:
        raise ValueError(NO_LATENCY_CARDS)
    panels = families({label: chosen[label].coordinates for label in costs})
    shared = {"sharex": True, "sharey": True}  # one scale of cost, so that the panels compare
    figure, axes = new_figure(figure_width(len(panels)), 75, columns=len(panels), **shared)
    add_title(figure, f"{data}, flag_limit {limit_of(chosen)}")
    scores = {label: chosen[label].estimate(CLEAN, macro_f1) for label in costs}
    front = pareto({label: (cost.median, scores[label].mean) for label, cost in costs.items()})
    corners = [(costs[label].median, scores[label].mean) for label in front]
    for ax, family in zip(axes, panels, strict=True):
        for label, member in family.members.items():
            _draw_model(ax, label, member, costs[label], scores[label])
        ax.step(*zip(*corners, strict=True), where="post", color="0.7", linewidth=1, zorder=0)
        log_axis(ax)
        ax.set_title(family.title)
    axes[0].set_ylabel("macro-F1, test")
    draw_baseline(axes, largest_class(groups, macro_f1))
    figure.supxlabel("ms per cell, one at a time", fontsize=8)
    ends = [
        [End(costs[label].median, scores[label].mean, m.short, m.style.color) for label, m in family.members.items()]
        for family in panels
    ]
    label_ends(figure, zip(axes, ends, strict=True))
    drawn = {label: chosen[label] for label in costs}
    missing = missing_groups_caption("No card of latency", drawn, groups)
    caption = f"Macro-F1 against milliseconds per cell (eager, batch 1, medians and quartiles on {machine}), {data}; "
    caption += "grey: the Pareto front, dotted: always naming the largest class. "
    return Drawing(
        "figure2",
        figure,
        f"{caption}{sample_size_caption(list(drawn.values()), groups)}{missing}",
    )


def _draw_model(ax: Axes, label: str, member: Member, cost: Milliseconds, score: Estimate) -> None:
    """A mark with its interval and its quartiles."""
    took = f"{rounded(cost.median)} ms ({rounded(cost.low)} to {rounded(cost.high)}) a cell"
    words = f"{took}, macro-F1 {format_ci(*score.summary())}"
    draw_point(ax, (cost.median, cost.low, cost.high), score.summary(), member.style, f"{label}: {words}")


if __name__ == "__main__":
    main_of_figure(draw)
