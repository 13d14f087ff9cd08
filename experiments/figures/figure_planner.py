"""How many annotations does a target take? Flags per class until each model reaches a macro-F1.

    cellpatch figures runs figure_planner          # or: make figure_planner RUNS=runs

Between limits by interpolation; beyond them, up to four times the largest, by a fitted power law, and only where the
data support one; the caption states why they do not. A model without a mark at a target does not
reach it. A class that has fewer cells counts as what it has; limits that no class has the training cells for are left
out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import ScalarFormatter

from cellpatch.analysis.curves import LearningCurve, learning_curves, within_classes
from cellpatch.analysis.groups import SeedGroup
from cellpatch.analysis.labels import by_label
from cellpatch.analysis.planner import Planner
from cellpatch.analysis.scaling import MAX_EXTRAPOLATION
from cellpatch.cli.figures import main_of_figure
from cellpatch.figures.captions import group_by_value, sample_size_caption
from cellpatch.figures.families import End, Member, families, label_ends
from cellpatch.figures.plotting import Drawing, add_title, draw_curve, figure_width, new_figure, styled
from cellpatch.metrics.scores import macro_f1

TARGETS = 7


@dataclass(frozen=True)
class Plan:
    """Targets above the score at the first limit, and for each the flag_limit that it takes with its interval.

    `refusal` states why there is no power law beyond the largest limit; None if there is one.
    """

    targets: list[float]
    limits: list[tuple[float, float, float]]
    refusal: str | None


@styled
def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """Annotations per class on a log axis against the target."""
    whole = {label: within_classes(curve) for label, curve in by_label(learning_curves(groups), groups).items()}
    curves = {label: curve for label, curve in whole.items() if len(curve.limits) > 1}
    if not curves:
        raise ValueError("a plan needs two flag_limits of a model at least")
    panels = families({label: curve.coordinates for label, curve in curves.items()})
    width = figure_width(len(panels))
    figure, axes = new_figure(width, 75, columns=len(panels), sharex=True, sharey=True)
    add_title(figure, data)
    plans = {label: plan(curve) for label, curve in curves.items()}
    refusals = {label: made.refusal for label, made in plans.items() if made.refusal}
    top = MAX_EXTRAPOLATION * max(curve.limits[-1] for curve in curves.values())
    for ax, family in zip(axes, panels, strict=True):
        for label, member in family.members.items():
            _draw_plan(ax, label, member, curves[label], plans[label], top)
        ax.set_title(family.title)
    axes[0].set_yscale("log", base=2)
    axes[0].yaxis.set_major_formatter(ScalarFormatter())
    axes[0].set_ylabel("annotations per class")
    figure.supxlabel("target macro-F1, test", fontsize=8)
    planned = [[(plans[k], member) for k, member in of.members.items() if plans[k].targets] for of in panels]
    ends = [[End(of.targets[-1], of.limits[-1][0], m.short, m.style.color) for of, m in each] for each in planned]
    label_ends(figure, zip(axes, ends, strict=True))
    why = "".join(
        f" No power law beyond the largest limit ({why}): {labels}." for why, labels in group_by_value(refusals).items()
    )
    open_end = " Bars are 95 % intervals at the last target; an arrow up means that no end is known."
    caption = f"Annotations required for a target score, {data}. {sample_size_caption(groups)}{open_end}{why}"
    return Drawing("figure_planner", figure, caption)


def _draw_plan(ax: Axes, label: str, member: Member, curve: LearningCurve, made: Plan, top: float) -> None:
    """The line of a curve, and the interval of its last target: up to `top`, with an arrow, if it has no end."""
    texts = [
        f"{target:.3f} takes {value:.0f} a class{_ends(curve.limits[0], low, high)}"
        for target, (value, low, high) in zip(made.targets, made.limits, strict=True)
    ]
    y = [(value, np.nan, np.nan) for value, _, _ in made.limits]
    draw_curve(ax, made.targets, y, label, texts, curve.coordinates, member.style)
    if not made.limits:
        return
    _, low, high = made.limits[-1]
    at, color = made.targets[-1], member.style.color
    ax.vlines([at], low, min(high, top), color=color, linewidth=0.8, alpha=0.6)
    if high > top:
        ax.plot([at], [top], "^", color=color, markersize=3, alpha=0.6)


def _ends(first: float, low: float, high: float) -> str:
    if np.isnan(low) or np.isnan(high):
        return ""
    if not np.isfinite(high):
        return f" ({low:.0f} or more, no end is known)"
    return f" ({low:.0f}{' or fewer' if low <= first else ''} to {high:.0f})"


def plan(curve: LearningCurve) -> Plan:
    """The annotations that targets take, by interpolation and a power law where the data support one."""
    planner = Planner(curve.limits, curve.estimates(curve.limits, macro_f1))
    targets, needed = [], []
    for target in np.linspace(planner.means[0], planner.best, TARGETS):
        takes = planner.needed(float(target))
        if not np.isfinite(takes[0]):
            break
        targets.append(float(target))
        needed.append(takes)
    return Plan(targets, needed, planner.refusal)


if __name__ == "__main__":
    main_of_figure(draw)
