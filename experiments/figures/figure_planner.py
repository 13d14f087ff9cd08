"""How many annotations does a target take? Flags per class until each model reaches a macro-F1.

    python experiments/figure_planner.py runs          # or: make figure_planner RUNS=runs

Between limits by interpolation; beyond them, up to four times the largest, by a fitted power law, and only where the
data support one: why they do not is told. A model that is not there for a target does not reach it. A class that has
fewer cells counts as what it has; limits that no class has the training cells for are left out.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import ScalarFormatter

from cellpatch.analysis.bootstrap import interval
from cellpatch.analysis.curves import LearningCurve, learning_curves, within_classes
from cellpatch.analysis.groups import SeedGroup
from cellpatch.analysis.labels import by_label
from cellpatch.analysis.scaling import MAX_EXTRAPOLATION, fit_power_law, limit_for, why_no_power_law
from cellpatch.cli.figures import main_of_figure
from cellpatch.figures.captions import group_by_value, sample_size_caption
from cellpatch.figures.plotting import COLUMN_MM, PAGE_MM, Drawing, add_title_and_legend, draw_curve, new_figure, styled
from cellpatch.metrics.scores import macro_f1

TARGETS = 7


@styled
def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """Annotations per class on a log axis against the target."""
    whole = {label: within_classes(curve) for label, curve in by_label(learning_curves(groups), groups).items()}
    found = {label: curve for label, curve in whole.items() if len(curve.limits) > 1}
    if not found:
        raise ValueError("a plan needs two flag_limits of a model at least")
    kinds = sorted({curve.place["adapt"] == "scratch" for curve in found.values()}, reverse=True)
    figure, places = new_figure(PAGE_MM if len(kinds) > 1 else COLUMN_MM, 85, columns=len(kinds), sharey=True)
    refusals = {}
    for label, curve in found.items():
        axes = places[kinds.index(curve.place["adapt"] == "scratch")]
        targets, needed, refusal = plan(curve)
        if refusal:
            refusals[label] = refusal
        told_of = [
            f"{target:.3f} takes {value:.0f} a class{_ends(curve.limits[0], low, high)}"
            for target, (value, low, high) in zip(targets, needed, strict=True)
        ]
        y = [(value, low, min(high, MAX_EXTRAPOLATION * curve.limits[-1])) for value, low, high in needed]
        draw_curve(axes, targets, y, label, told_of, curve.place)
    for axes, scratch in zip(places, kinds, strict=True):
        axes.set_title("trained from scratch" if scratch else "pretrained")
        axes.set_xlabel("target macro-F1, test")
    places[0].set_yscale("log", base=2)
    places[0].yaxis.set_major_formatter(ScalarFormatter())
    places[0].set_ylabel("flag_limit: most annotations per class")
    add_title_and_legend(figure, data)
    why = "".join(
        f" No power law beyond the largest limit ({why}): {of}." for why, of in group_by_value(refusals).items()
    )
    open_end = (
        f" Lines to the top, {MAX_EXTRAPOLATION:g} times a model's largest limit, are of intervals without a known end."
    )
    caption = f"Annotations that a target takes, {data}. {sample_size_caption(groups)}{open_end}{why}"
    return Drawing("figure_planner", figure, caption)


def _ends(first: float, low: float, high: float) -> str:
    if np.isnan(low) or np.isnan(high):
        return ""
    if not np.isfinite(high):
        return f" ({low:.0f} or more, no end is known)"
    return f" ({low:.0f}{' or fewer' if low <= first else ''} to {high:.0f})"


def plan(curve: LearningCurve) -> tuple[list[float], list[tuple[float, float, float]], str | None]:
    """Targets above the first limit's score, the flag_limit that each takes with its interval, and why no further."""
    limits = curve.limits
    estimates = curve.estimates(limits, macro_f1)
    means = np.array([estimate.mean for estimate in estimates])
    draws = np.stack([estimate.bootstrap_samples() for estimate in estimates], axis=1)
    refusal = why_no_power_law(limits, draws)
    targets, needed = [], []
    law, laws = (fit_power_law(limits, of) if refusal is None else None for of in (means, draws))
    best = means.max() if law is None else 1 - law[0]
    for target in np.linspace(means[0], best, TARGETS):
        value = float(limit_for(limits, means, target, law))
        if not np.isfinite(value):
            break
        low, high = interval(limit_for(limits, draws, target, laws))
        targets.append(float(target))
        needed.append((max(value, limits[0]), max(low, limits[0]), high))  # nothing is known below
    return targets, needed, refusal


if __name__ == "__main__":
    main_of_figure(draw)
