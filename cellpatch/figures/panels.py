"""Panels of curves over all sigmas of blur: what figures of blur share."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cellpatch.analysis.baselines import Baseline
from cellpatch.analysis.groups import SeedGroup, limit_of
from cellpatch.figures.captions import group_by_value
from cellpatch.figures.families import End, Family, families, label_ends
from cellpatch.figures.plotting import add_title, draw_baseline, draw_curve, figure_width, new_figure
from cellpatch.figures.tables import format_ci
from cellpatch.metrics.degradation import blur_axis

BlurCurve = dict[float, tuple[float, float, float]]  # by sigma, a value and the ends of its interval, NaN if none


def draw_blur_panels(
    data: str,
    chosen: Mapping[str, SeedGroup],
    panels: Mapping[str, Callable[[SeedGroup], BlurCurve]],
    score: str,
    sharey: Literal["all", "col", "row"] = "all",
    baseline: Baseline | None = None,
) -> tuple[Figure, str]:
    """Curves against log2(1 + sigma), and for the caption which sigmas a model lacks.

    A row for each of `panels`, which maps titles to functions that give a group's curve; a column for each family of
    models. `score` names what the curves show. `sharey` is "col" where a family may need an axis of its own, "row"
    where rows have different units. A `baseline` is a dotted line. Where intervals would squeeze the curves of a column
    they are cut, as the words say.
    """
    columns = families({label: group.coordinates for label, group in chosen.items()})
    width = figure_width(len(columns))
    figure, axes = new_figure(width, 58 * len(panels), rows=len(panels), columns=len(columns), sharey=sharey)
    add_title(figure, f"{data}, flag_limit {limit_of(chosen)}")
    missing: dict[str, set[float]] = {label: set() for label in chosen}
    ends = []
    for row, (title, curve_of) in enumerate(panels.items()):
        curves = {label: curve_of(group) for label, group in chosen.items()}
        sigmas = sorted(set().union(*curves.values()))
        for label, curve in curves.items():
            missing[label] |= set(sigmas) - set(curve)
        for column, family in enumerate(columns):
            ax = axes[row * len(columns) + column]
            ends.append((ax, _draw_panel(ax, family, curves, chosen, sigmas, score)))
            if not row:
                ax.set_title(family.title)
            if row == len(panels) - 1:
                ax.set_xlabel("sigma, px of the 40x40 input")
        axes[row * len(columns)].set_ylabel(f"{score}, test\n{title}")
    if baseline is not None:
        draw_baseline(axes, baseline)
    cut = [sharey == "col" and _cut_intervals(axes[column :: len(columns)]) for column in range(len(columns))]
    label_ends(figure, ends)
    lists = {label: ", ".join(f"{sigma:g}" for sigma in sorted(sigmas)) for label, sigmas in missing.items()}
    words = "".join(
        f" Not evaluated at sigma {which}: {names}." for which, names in group_by_value(lists).items() if which
    )
    words += " Intervals that leave a panel are cut." if any(cut) else ""
    return figure, f" Sigmas are spaced as log2(1 + sigma).{words}"


def _cut_intervals(column: Sequence[Axes]) -> bool:
    """Lower the top of a column's shared axis to half above its highest mark, if intervals reach twice as high."""
    lines = [np.asarray(line.get_ydata(), float) for ax in column for line in ax.lines]
    highest = max((float(np.nanmax(line)) for line in lines if line.size > 1), default=0.0)
    tall = bool(column[0].get_ylim()[1] > 2 * highest > 0)
    if tall:
        column[0].set_ylim(top=1.5 * highest)
    return tall


def _draw_panel(
    ax: Axes,
    family: Family,
    curves: Mapping[str, BlurCurve],
    chosen: Mapping[str, SeedGroup],
    sigmas: list[float],
    score: str,
) -> list[End]:
    """Draw the curves of a family; gives the last point of each."""
    ends = []
    x = blur_axis(sigmas)
    for label, member in family.members.items():
        y = [curves[label].get(sigma, (np.nan,) * 3) for sigma in sigmas]
        texts = [f"sigma {sigma:g}, {score} {format_ci(*at)}" for sigma, at in zip(sigmas, y, strict=True)]
        draw_curve(ax, x.tolist(), y, label, texts, chosen[label].coordinates, member.style)
        last = max(i for i, sigma in enumerate(sigmas) if sigma in curves[label])
        ends.append(End(float(x[last]), y[last][0], member.short, member.style.color))
    ax.set_xticks(x, [f"{sigma:g}" for sigma in sigmas], fontsize=7)
    return ends
