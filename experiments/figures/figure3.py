"""Does macro-F1 grow with annotations, and from how many on does a small network stay ahead of a pretrained one?

    cellpatch figures runs figure3          # or: make figure3 RUNS=runs

Left: models trained from scratch, those that were pretrained on the study's own crops included. Right: models with
published weights, beside the best of the left at the largest limit (grey).
A triangle on the axis marks from where on that one stays ahead of a pretrained curve (up) or falls behind it (down),
linear in log2 between limits. Points of one limit stand beside each other, in the order of the legend.
A dagger stands beside points with runs that kept their first or last validation.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from cellpatch.analysis.curves import (
    LearningCurve,
    crossing_of_leader,
    format_limit_range,
    leader,
    learning_curves,
    shared_limits,
    side_title,
    split_by_adaptation,
)
from cellpatch.analysis.groups import SeedGroup
from cellpatch.analysis.labels import by_label
from cellpatch.cli.figures import main_of_figure
from cellpatch.figures.captions import missing_runs_caption, sample_size_caption
from cellpatch.figures.palette import model_style
from cellpatch.figures.plotting import (
    COLUMN_MM,
    PAGE_MM,
    Drawing,
    add_title_and_legend,
    add_tooltip,
    draw_curve,
    limit_axis,
    new_figure,
    styled,
)
from cellpatch.figures.tables import format_ci
from cellpatch.metrics.scores import macro_f1

DAGGER = "†"  # beside points with runs that kept their first or last validation


@styled
def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """Macro-F1 on clean test cells against flag_limit."""
    curves = by_label(learning_curves(groups), groups)
    limits = sorted({limit for curve in curves.values() for limit in curve.limits})
    scratch, pretrained = split_by_adaptation(curves)
    panels = [panel for panel in (scratch, pretrained) if panel]
    figure, axes = new_figure(PAGE_MM if len(panels) == 2 else COLUMN_MM, 90, columns=len(panels), sharey=True)
    counts = {limit: max(g.n_train for g in groups if g.coordinates.flag_limit == limit) for limit in limits}
    for ax, panel in zip(axes, panels, strict=True):
        for i, (label, curve) in enumerate(panel.items()):
            shift = 2 ** (0.05 * (i - (len(panel) - 1) / 2))  # beside each other, so that intervals are seen
            _draw(ax, curve, limits, label, shift)
        limit_axis(ax, counts)
        ax.set_title(side_title(panel))
    axes[0].set_ylabel("macro-F1, test")
    marks = _mark_crossings(axes[1], scratch, pretrained) if len(panels) == 2 else ""
    add_title_and_legend(figure, data)
    run = {(label, limit) for label, curve in curves.items() for limit in curve.limits}
    missing = missing_runs_caption(list(curves), limits, run)
    caption = f"Macro-F1 against flag_limit, {data}; points of one limit are drawn side by side. "
    caption += sample_size_caption(groups)
    if any(group.best_validations for group in groups):
        caption += f" {DAGGER} marks points with such runs."
    return Drawing("figure3", figure, caption + marks + missing)


def _draw(ax: Axes, curve: LearningCurve, limits: Sequence[int], label: str, shift: float) -> None:
    y, texts = [], []
    for limit in limits:
        if limit not in curve.limits:
            y.append((np.nan,) * 3)
            texts.append("")
            continue
        [estimate] = curve.estimates([limit], macro_f1)
        y.append(estimate.summary())
        seeds = len(estimate.seeds)
        texts.append(f"macro-F1 {format_ci(*y[-1])} at {limit}, {seeds} seed{'s' * (seeds > 1)}")
        kept = curve.groups[curve.limits.index(limit)].best_validations
        texts[-1] += "".join(f"; {n} of {seeds} kept the {which} validation" for which, n in sorted(kept.items()))
        if kept:
            color, at = model_style(curve.coordinates.model).color, (limit * shift, y[-1][0])
            ax.annotate(DAGGER, at, (4, -9), textcoords="offset points", color=color, fontsize=9)
    draw_curve(ax, [limit * shift for limit in limits], y, label, texts, curve.coordinates)


def _mark_crossings(ax: Axes, scratch: Mapping[str, LearningCurve], pretrained: Mapping[str, LearningCurve]) -> str:
    """Draw the best curve from scratch and mark where it stays ahead; gives the caption's words."""
    top = max(limit for curve in scratch.values() for limit in curve.limits)
    name, _ = leader(scratch, top)
    best, side = scratch[name], side_title(scratch).removeprefix("trained ")
    means = [estimate.mean for estimate in best.estimates(best.limits, macro_f1)]
    ax.plot(best.limits, means, color="0.6", linewidth=2.5, zorder=0)
    compared = {label: curve for label, curve in pretrained.items() if len(shared_limits(best, curve)) > 1}
    words = [text for label, curve in compared.items() if (text := _mark_crossing(ax, (name, best), (label, curve)))]
    if words:
        return f" {name} (grey), the best {side} at {top}, " + "; ".join(words) + "."
    none = (
        "it crosses no curve between common limits" if compared else "no other curve has two limits in common with it"
    )
    return f" Grey: {name}, the best {side} at {top}; {none}."


def _mark_crossing(ax: Axes, best: tuple[str, LearningCurve], pretrained: tuple[str, LearningCurve]) -> str:
    """Mark where labelled curves cross between limits that both have; gives the words, empty if they do not."""
    (name, grey), (label, curve) = best, pretrained
    ahead, crossing = crossing_of_leader(grey, curve, macro_f1)
    if not 0 < crossing.limit < np.inf:
        return ""
    limits = format_limit_range(shared_limits(grey, curve), crossing.low, crossing.high)
    ends = "" if np.isnan(crossing.low) else f" ({limits})"
    marker, color = "^" if ahead else "v", model_style(curve.coordinates.model).color
    [mark] = ax.plot([crossing.limit], [0.02], marker, color=color, transform=ax.get_xaxis_transform())
    text = f"{'stays ahead of' if ahead else 'is behind'} {label} from {crossing.limit:.0f}{ends} on"
    add_tooltip(mark, f"{name} {text}")
    return text


if __name__ == "__main__":
    main_of_figure(draw)
