"""How many annotations does a target take? Flags per class until each model reaches a macro-F1.

    python experiments/figure_planner.py runs          # or: make figure_planner RUNS=runs

Between limits by interpolation; beyond them, up to four times the largest, by a fitted power law, and only where the
data support one: why they do not is told. A model that is not there for a target does not reach it.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import ScalarFormatter

from cellpatch.captions import labelled, told
from cellpatch.curves import Curve, curves
from cellpatch.groups import Group
from cellpatch.plotting import Drawing, draw_curve, draw_from, finish, new_figure, styled
from cellpatch.scaling import FURTHEST, fit_power_law, limit_for, why_no_power_law
from cellpatch.stats import interval, macro_f1

TARGETS = 12


@styled
def draw(data: str, groups: Sequence[Group]) -> Drawing:
    """Annotations per class on a log axis against the target."""
    found = {label: curve for label, curve in labelled(curves(groups)).items() if len(curve.limits) > 1}
    if not found:
        raise ValueError("a plan needs two flag_limits of a model at least")
    figure, [axes] = new_figure(height_mm=85)
    refusals = []
    for label, curve in found.items():
        targets, needed, refusal = plan(curve)
        if refusal:
            refusals.append(f"{label}: {refusal}")
        told_of = [
            f"{t:.2f} takes {v:.0f} a class ({a:.0f} to {b:.0f})" for t, (v, a, b) in zip(targets, needed, strict=True)
        ]
        y = [(value, low, high if np.isfinite(high) else FURTHEST * curve.limits[-1]) for value, low, high in needed]
        draw_curve(axes, targets, y, label, told_of, curve.place)
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.set_xlabel("target macro-F1, test")
    axes.set_ylabel("annotations per class (flag_limit)")
    finish(figure, data)
    why = f" No power law beyond the largest limit: {'; '.join(refusals)}." if refusals else ""
    return Drawing("figure_planner", figure, f"Annotations that a target takes, {data}. {told(groups)}{why}")


def plan(curve: Curve) -> tuple[list[float], list[tuple[float, float, float]], str | None]:
    """Targets above the first limit's score, the flag_limit that each takes with its interval, and why no further."""
    limits = curve.limits
    estimates = curve.estimates(limits, macro_f1)
    means = np.array([estimate.mean for estimate in estimates])
    draws = np.stack([estimate.both_draws() for estimate in estimates], axis=1)
    refusal = why_no_power_law(limits, draws)
    targets, needed = [], []
    best = 1 - fit_power_law(limits, means)[0] if refusal is None else means.max()
    for target in np.linspace(means[0], best, TARGETS):
        value = float(limit_for(limits, means, target, extrapolate=refusal is None))
        if not np.isfinite(value):
            break
        low, high = interval(limit_for(limits, draws, target, extrapolate=refusal is None))
        targets.append(float(target))
        needed.append((value, max(low, limits[0]), high))
    return targets, needed, refusal


if __name__ == "__main__":
    draw_from(draw)
