"""How fast does blur cost accuracy? Slopes of accuracy against log2(1 + sigma), after and before the resize.

    python experiments/figure5.py runs          # or: make figure5 RUNS=runs

The study's degradation rate, at the flag_limit that most models have, least squares over all sigmas, 0 included. A
slope depends on its sigmas: models that were evaluated at others than most are named in the caption and not drawn.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple

import numpy as np

from cellpatch.analysis.degradation import slope
from cellpatch.analysis.estimates import Estimate, combine
from cellpatch.analysis.groups import SeedGroup, at_one_limit, blur_curve, limit_of, under_blur
from cellpatch.analysis.labels import by_label
from cellpatch.cli.figures import main_of_figure
from cellpatch.figures.captions import missing_groups_caption, row_label, sample_size_caption
from cellpatch.figures.plotting import Drawing, add_title_and_legend, add_tooltip, model_style, new_figure, styled
from cellpatch.figures.tables import format_ci
from cellpatch.metrics.scores import accuracy

FLAT = 0.01  # slopes below it fill no axis: rounding is no loss


@styled
def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """Two bars a model, by the slope after the resize."""
    there = by_label(at_one_limit(under_blur(groups, "pre", "post")), groups)
    conditions_of = {label: tuple(sorted(map(astuple, group.conditions()))) for label, group in there.items()}
    [(conditions, _)] = Counter(conditions_of.values()).most_common(1)
    chosen = {label: group for label, group in there.items() if conditions_of[label] == conditions}
    rates = {label: {kind: rate(group, kind) for kind in ("post", "pre")} for label, group in chosen.items()}
    order = sorted(chosen, key=lambda label: -rates[label]["post"].mean)
    figure, [axes] = new_figure(height_mm=30 + 7 * len(order))
    for row, label in enumerate(order):
        colour = model_style(chosen[label].place["model"])["color"]
        for kind, shift in (("post", 0.2), ("pre", -0.2)):
            estimate = rates[label][kind]
            value, low, high = estimate.summary()
            face = colour if kind == "post" else "white"
            [bar] = axes.barh([row + shift], [value], 0.34, color=face, edgecolor=colour, linewidth=0.8)
            axes.hlines([row + shift], low, high, color="0.45" if colour == "#000000" else "0.2", linewidth=0.8)
            add_tooltip(bar, f"{label}, {kind}: {format_ci(value, low, high)} per doubling of 1 + sigma")
    axes.fill([], [], color="0.3", label="post")
    axes.fill([], [], facecolor="white", edgecolor="0.3", label="pre")
    axes.set_yticks(range(len(order)), [row_label(label, chosen) for label in order])
    axes.set_ylim(-0.5, len(order) - 0.5)
    if np.ptp(axes.get_xlim()) < FLAT:
        axes.set_xlim(-FLAT, FLAT)
    axes.locator_params(axis="x", nbins=4, min_n_ticks=3)  # labels have up to six characters
    axes.set_xlabel("accuracy per doubling of (1 + sigma)")
    add_title_and_legend(figure, f"{data}, flag_limit {limit_of(chosen)}")
    caption = "Degradation rate: slope of accuracy against log2(1 + sigma), blur after (post) and before (pre) resizing"
    levels = {kind: [f"{sigma:g}" for one, sigma in conditions if one == kind] for kind in ("post", "pre")}
    words = "; ".join(f"{kind} at 0, {', '.join(sigmas)}" for kind, sigmas in levels.items())
    missing = missing_groups_caption("Not evaluated at these sigmas", chosen, groups)
    return Drawing(
        "figure5", figure, f"{caption} ({words}), {data}. " + sample_size_caption(list(chosen.values())) + missing
    )


def rate(group: SeedGroup, kind: str) -> Estimate:
    """The slope of accuracy under one kind of blur."""
    sigmas, estimates = blur_curve(group, kind, accuracy)
    return combine(lambda scores: slope(sigmas, scores), estimates)


if __name__ == "__main__":
    main_of_figure(draw)
