"""Are probabilities right? Reliability diagrams: the share of right cells against the confidence, clean and blurred.

    cellpatch figures runs figure_reliability          # or: make figure_reliability RUNS=runs

At the flag_limit that most models have; of probabilities as they are, in 15 bins of equal width, cells of all seeds
together. A mark's area is its share of the cells. Below the line a model is too sure of itself.
"""

from collections.abc import Sequence

from matplotlib.axes import Axes

from cellpatch.analysis.groups import SeedGroup, at_one_limit, limit_of
from cellpatch.analysis.labels import by_label
from cellpatch.cli.figures import main_of_figure
from cellpatch.figures.captions import missing_groups_caption, prior_caption, sample_size_caption
from cellpatch.figures.palette import numbered_style
from cellpatch.figures.plotting import Drawing, add_title_and_legend, add_tooltip, new_panels, styled
from cellpatch.metrics.calibration import ECE_BINS, ReliabilityBin, pool_bins
from cellpatch.optics.conditions import CLEAN, Condition

ACROSS = 4
STRONG = Condition("post", 1.6)  # the study's strong level
STYLES = {CLEAN: numbered_style(0), STRONG: numbered_style(1)}
LEAST = 10  # cells of a bin that is drawn: the share of fewer is chance
LARGEST_PT = 9.0  # the mark of a bin with all cells


@styled
def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """A panel a model; raises ValueError if no record has bins of confidence."""
    chosen = by_label(at_one_limit([group for group in groups if pooled(group, CLEAN)]), groups)
    if not chosen:
        raise ValueError("no record has bins of confidence: runs of versions before 0.4.0 did not store them")
    figure, axes = new_panels(list(chosen), ACROSS, 43, 25, sharex=True, sharey=True)
    for ax, (label, group) in zip(axes, chosen.items(), strict=True):
        ax.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, zorder=0)
        for condition in STYLES:
            _draw(ax, label, condition, pooled(group, condition))
        ax.set_aspect("equal")
    for condition, style in STYLES.items():
        axes[0].plot([], [], "-", marker=style.marker, color=style.color, markersize=4, label=str(condition))
    for ax in axes[-ACROSS:]:  # the lowest of each column; a label of the figure would lie on the legend
        ax.set_xlabel("confidence")
    figure.supylabel("share of right cells, test", fontsize=8)
    add_title_and_legend(figure, f"{data}, flag_limit {limit_of(chosen)}")
    caption = (
        f"Reliability diagrams: the share of right cells against the confidence, in {ECE_BINS} bins, on clean cells "
        f"and under {STRONG.kind} blur of sigma {STRONG.sigma:g}, {data}; areas are shares of the cells, seeds "
        f"together; bins of fewer than {LEAST} cells are left out. "
    )
    n = sample_size_caption(list(chosen.values()), groups, "no intervals")
    missing = missing_groups_caption("No bins stored", chosen, groups)
    return Drawing("figure_reliability", figure, caption + n + prior_caption(chosen) + missing)


def pooled(group: SeedGroup, condition: Condition) -> list[ReliabilityBin]:
    """The bins of all seeds that have any, cells together; empty if none has."""
    rows = [row for run in group.runs for row in run.record.metrics if row.condition == condition]
    return pool_bins([each for row in rows for each in row.scores.reliability or []])


def _draw(ax: Axes, label: str, condition: Condition, bins: Sequence[ReliabilityBin]) -> None:
    """A line through the bins, a mark each."""
    if not bins:
        return
    style = STYLES[condition]
    drawn = [each for each in bins if each.n >= LEAST]
    ax.plot([each.confidence for each in drawn], [each.accuracy for each in drawn], color=style.color, linewidth=1)
    total = sum(each.n for each in bins)
    for each in drawn:
        sized = {"markersize": 1.5 + LARGEST_PT * (each.n / total) ** 0.5, "alpha": 0.8}
        [point] = ax.plot([each.confidence], [each.accuracy], style.marker, color=style.color, **sized)
        words = f"confidence {each.confidence:.2f}, {each.accuracy:.2f} right, {100 * each.n / total:.1f} % of cells"
        add_tooltip(point, f"{label}, {condition}: {words}")


if __name__ == "__main__":
    main_of_figure(draw)
