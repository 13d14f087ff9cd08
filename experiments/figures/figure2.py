"""What does a better score cost? Macro-F1 against milliseconds per cell, and the models that none beats in both.

    cellpatch latency runs          # writes a card of latency into each record; let nothing run beside it
    cellpatch figures runs figure2          # or: make figure2 RUNS=runs

At the flag_limit that most models have. Milliseconds are median and quartiles of one cell at a time (batch 1, eager),
from the card of any run of that model, adapt and input side.
"""

from collections.abc import Sequence

from cellpatch.analysis.groups import SeedGroup, at_one_limit, limit_of
from cellpatch.analysis.labels import by_label
from cellpatch.analysis.latency_cards import NO_LATENCY_CARDS, milliseconds, pareto
from cellpatch.cli.figures import main_of_figure
from cellpatch.figures.captions import missing_groups_caption, sample_size_caption
from cellpatch.figures.palette import group_style
from cellpatch.figures.plotting import Drawing, add_title_and_legend, draw_point, log_axis, new_figure, styled
from cellpatch.metrics.scores import macro_f1
from cellpatch.optics.conditions import CLEAN


@styled
def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """Macro-F1 against milliseconds on a log axis, with the Pareto front."""
    chosen = by_label(at_one_limit(groups), groups)
    costs, machine = milliseconds(chosen, groups)
    if not costs:
        raise ValueError(NO_LATENCY_CARDS)
    figure, [ax] = new_figure(height_mm=80)
    scores = {label: chosen[label].estimate(CLEAN, macro_f1) for label in costs}
    for label, (ms, low, high) in costs.items():
        coordinates = chosen[label].coordinates
        ax.hlines([scores[label].mean], low, high, color=group_style(coordinates).color, linewidth=0.8, alpha=0.6)
        text = f"{label}: {ms:.3g} ms ({low:.3g} to {high:.3g}) a cell, macro-F1"
        draw_point(ax, ms, scores[label], coordinates, text, label)
    front = pareto({label: (cost.median, scores[label].mean) for label, cost in costs.items()})
    corners = [(costs[label].median, scores[label].mean) for label in front]
    ax.step(*zip(*corners, strict=True), where="post", color="0.7", linewidth=1, zorder=0)
    log_axis(ax)
    ax.set_xlabel("ms per cell, one at a time")
    ax.set_ylabel("macro-F1, test")
    add_title_and_legend(figure, f"{data}, flag_limit {limit_of(chosen)}")
    drawn = {label: chosen[label] for label in costs}
    missing = missing_groups_caption("No card of latency", drawn, groups)
    caption = f"Macro-F1 against milliseconds per cell (eager, batch 1, medians and quartiles on {machine}), {data}; "
    return Drawing(
        "figure2",
        figure,
        f"{caption}grey: the Pareto front. {sample_size_caption(list(drawn.values()), groups)}{missing}",
    )


if __name__ == "__main__":
    main_of_figure(draw)
