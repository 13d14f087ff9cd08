"""Does macro-F1 grow with annotations, and from how many on does a small network stay ahead of a pretrained one?

    python experiments/figure3.py runs          # or: make figure3 RUNS=runs

Left: models trained from scratch. Right: pretrained ones, beside the best of the left at the largest limit (grey).
A triangle on the axis marks from where on that one stays ahead of a pretrained curve (up) or falls behind it (down),
linear in log2 between limits. Points of one limit stand beside each other, in the order of the legend.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from cellpatch.analysis.curves import LearningCurve, crossing_of_leader, format_limit_range, learning_curves
from cellpatch.analysis.groups import SeedGroup
from cellpatch.analysis.labels import by_label
from cellpatch.cli.figures import main_of_figure
from cellpatch.figures.captions import missing_runs_caption, sample_size_caption
from cellpatch.figures.plotting import (
    COLUMN_MM,
    PAGE_MM,
    Drawing,
    add_title_and_legend,
    add_tooltip,
    draw_curve,
    limit_axis,
    model_style,
    new_figure,
    styled,
)
from cellpatch.figures.tables import format_ci
from cellpatch.metrics.scores import macro_f1


@styled
def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """Macro-F1 on clean test cells against flag_limit."""
    found = by_label(learning_curves(groups), groups)
    limits = sorted({limit for curve in found.values() for limit in curve.limits})
    small = {label: curve for label, curve in found.items() if curve.place["adapt"] == "scratch"}
    large = {label: curve for label, curve in found.items() if curve.place["adapt"] != "scratch"}
    panels = [part for part in (small, large) if part]
    figure, axes = new_figure(PAGE_MM if len(panels) == 2 else COLUMN_MM, 90, columns=len(panels), sharey=True)
    counts = {limit: max(g.n_train for g in groups if g.place["flag_limit"] == limit) for limit in limits}
    for place, part in zip(axes, panels, strict=True):
        for i, (label, curve) in enumerate(part.items()):
            shift = 2 ** (0.05 * (i - (len(part) - 1) / 2))  # beside each other, so that intervals are seen
            _draw(place, curve, limits, label, shift)
        limit_axis(place, counts)
        place.set_title("trained from scratch" if part is small else "pretrained")
    axes[0].set_ylabel("macro-F1, test")
    marks = _mark_crossings(axes[1], small, large) if len(panels) == 2 else ""
    add_title_and_legend(figure, data)
    missing = missing_runs_caption(
        list(found), limits, {(label, limit) for label, curve in found.items() for limit in curve.limits}
    )
    caption = f"Macro-F1 against flag_limit, {data}; points of one limit stand beside each other. "
    caption += sample_size_caption(groups)
    return Drawing("figure3", figure, caption + marks + missing)


def _draw(axes: Axes, curve: LearningCurve, limits: Sequence[int], label: str, shift: float) -> None:
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
    draw_curve(axes, [limit * shift for limit in limits], y, label, texts, curve.place)


def _mark_crossings(axes: Axes, small: Mapping[str, LearningCurve], large: Mapping[str, LearningCurve]) -> str:
    """Draw the best small curve and where it stays ahead; gives the caption's words."""
    top = max(limit for curve in small.values() for limit in curve.limits)
    at_top = {label: curve.estimates([top], macro_f1)[0].mean for label, curve in small.items() if top in curve.limits}
    name = max(at_top, key=lambda label: at_top[label])
    best = small[name]
    means = [estimate.mean for estimate in best.estimates(best.limits, macro_f1)]
    axes.plot(best.limits, means, color="0.6", linewidth=2.5, zorder=0)
    words = []
    compared = {label: curve for label, curve in large.items() if len(set(best.limits) & set(curve.limits)) > 1}
    for label, curve in compared.items():
        ahead, (place, low, high) = crossing_of_leader(best, curve, macro_f1)
        if 0 < place < np.inf:
            shared = sorted(set(best.limits) & set(curve.limits))
            ends = "" if np.isnan(low) else f" ({format_limit_range(shared, low, high)})"
            marker, color = "^" if ahead else "v", model_style(curve.place["model"])["color"]
            [mark] = axes.plot([place], [0.02], marker, color=color, transform=axes.get_xaxis_transform())
            text = f"{'stays ahead of' if ahead else 'is behind'} {label} from {place:.0f}{ends} on"
            add_tooltip(mark, f"{name} {text}")
            words.append(text)
    if words:
        return f" {name} (grey), the best from scratch at {top}, " + "; ".join(words) + "."
    none = "it crosses none between limits that both have" if compared else "no other has two limits in common with it"
    return f" Grey: {name}, the best from scratch at {top}; {none}."


if __name__ == "__main__":
    main_of_figure(draw)
