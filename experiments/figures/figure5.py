"""How fast does blur cost accuracy? Slopes of accuracy against log2(1 + sigma), after and before the resize.

    cellpatch figures runs figure5          # or: make figure5 RUNS=runs

The study's degradation rate, at the flag_limit that most models have, least squares over all sigmas, 0 included. A
slope depends on its sigmas: models that were evaluated at others than most are named in the caption and not drawn.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_rgba

from cellpatch.analysis.estimates import Estimate, combine
from cellpatch.analysis.groups import SeedGroup, at_one_limit, blur_curve, limit_of, under_blur
from cellpatch.analysis.labels import by_label
from cellpatch.cli.figures import main_of_figure
from cellpatch.figures.captions import missing_groups_caption, row_label, sample_size_caption
from cellpatch.figures.palette import model_style
from cellpatch.figures.plotting import Drawing, add_title_and_legend, add_tooltip, new_figure, styled
from cellpatch.figures.tables import format_ci
from cellpatch.metrics.degradation import slope
from cellpatch.metrics.scores import accuracy

FLAT = 0.01  # the least width of the axis, so that rounding errors do not look like a loss


@styled
def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """Two bars a model, by the slope after the resize."""
    blurred = by_label(at_one_limit(under_blur(groups, "pre", "post")), groups)
    [(conditions, _)] = Counter(frozenset(group.blur_conditions()) for group in blurred.values()).most_common(1)
    chosen = {label: group for label, group in blurred.items() if conditions == set(group.blur_conditions())}
    rates = {label: {kind: rate(group, kind) for kind in ("post", "pre")} for label, group in chosen.items()}
    order = sorted(chosen, key=lambda label: -rates[label]["post"].mean)
    figure, [ax] = new_figure(height_mm=30 + 7 * len(order))
    for row, label in enumerate(order):
        colour = model_style(chosen[label].coordinates.model).color
        for kind, shift in (("post", 0.2), ("pre", -0.2)):
            estimate = rates[label][kind]
            value, low, high = estimate.summary()
            face = to_rgba(colour, 0.4) if kind == "post" else "white"  # light, so that both ends of intervals show
            [bar] = ax.barh([row + shift], [value], 0.34, color=[face], edgecolor=colour, linewidth=0.8)
            ax.hlines([row + shift], low, high, color="black", linewidth=0.8)
            add_tooltip(bar, f"{label}, {kind}: {format_ci(value, low, high)} per doubling of 1 + sigma")
    ax.fill([], [], color="0.3", label="post")
    ax.fill([], [], facecolor="white", edgecolor="0.3", label="pre")
    ax.set_yticks(range(len(order)), [row_label(label, chosen) for label in order])
    ax.set_ylim(-0.5, len(order) - 0.5)
    ax.grid(visible=False, axis="y")
    if np.ptp(ax.get_xlim()) < FLAT:
        ax.set_xlim(-FLAT, FLAT)
    ax.locator_params(axis="x", nbins=4, min_n_ticks=3)  # tick labels have up to six characters
    ax.set_xlabel("accuracy per doubling of (1 + sigma)")
    add_title_and_legend(figure, f"{data}, flag_limit {limit_of(chosen)}")
    caption = "Degradation rate: slope of accuracy against log2(1 + sigma), blur after (post) and before (pre) resizing"
    sigmas = {kind: sorted(c.sigma for c in conditions if c.kind == kind) for kind in ("post", "pre")}
    words = "; ".join(f"{kind} at 0, {', '.join(f'{sigma:g}' for sigma in of)}" for kind, of in sigmas.items())
    missing = missing_groups_caption("Not evaluated at these sigmas", chosen, groups)
    sizes = sample_size_caption(list(chosen.values()), groups)
    return Drawing("figure5", figure, f"{caption} ({words}), {data}. {sizes}{missing}")


def rate(group: SeedGroup, kind: str) -> Estimate:
    """The slope of accuracy under one kind of blur."""
    sigmas, estimates = blur_curve(group, kind, accuracy)
    return combine(lambda scores: slope(sigmas, scores), estimates)


if __name__ == "__main__":
    main_of_figure(draw)
