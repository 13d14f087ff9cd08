"""Panels of curves over all sigmas of blur, a curve a model: what figures of blur share."""

from collections.abc import Callable, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cellpatch.analysis.degradation import blur_axis
from cellpatch.analysis.groups import SeedGroup, limit_of
from cellpatch.figures.captions import group_by_value
from cellpatch.figures.plotting import PAGE_MM, add_title_and_legend, draw_curve, new_figure
from cellpatch.figures.tables import format_ci

BlurCurve = dict[float, tuple[float, float, float]]  # by sigma, a value and the ends of its interval, NaN if none


def draw_blur_panels(
    data: str, chosen: Mapping[str, SeedGroup], panels: Mapping[str, Callable[[SeedGroup], BlurCurve]], score: str
) -> tuple[Figure, str]:
    """Curves against log2(1 + sigma), and for the caption which sigmas a model lacks.

    `panels` maps titles to functions that give a group's curve; `score` names what the curves show.
    """
    figure, axes = new_figure(PAGE_MM, 85, columns=len(panels), sharey=True)
    missing: dict[str, set[float]] = {label: set() for label in chosen}
    for ax, (title, curve_of) in zip(axes, panels.items(), strict=True):
        curves = {label: curve_of(group) for label, group in chosen.items()}
        _draw_panel(ax, curves, chosen, score)
        sigmas = set().union(*curves.values())
        for label, curve in curves.items():
            missing[label] |= sigmas - set(curve)
        ax.set_title(title)
    axes[0].set_ylabel(f"{score}, test")
    add_title_and_legend(figure, f"{data}, flag_limit {limit_of(chosen)}")
    lists = {label: ", ".join(f"{sigma:g}" for sigma in sorted(sigmas)) for label, sigmas in missing.items()}
    words = "".join(
        f" Not evaluated at sigma {which}: {names}." for which, names in group_by_value(lists).items() if which
    )
    return figure, words


def _draw_panel(ax: Axes, curves: Mapping[str, BlurCurve], chosen: Mapping[str, SeedGroup], score: str) -> None:
    sigmas = sorted(set().union(*curves.values()))
    for i, (label, curve) in enumerate(curves.items()):
        y = [curve.get(sigma, (np.nan,) * 3) for sigma in sigmas]
        texts = [f"sigma {sigma:g}, {score} {format_ci(*ends)}" for sigma, ends in zip(sigmas, y, strict=True)]
        shift = 0.02 * (i - (len(curves) - 1) / 2)  # beside each other, so that intervals are seen
        x = (blur_axis(sigmas) + shift).tolist()
        draw_curve(ax, x, y, label, texts, chosen[label].coordinates)
    ax.set_xticks(blur_axis(sigmas), [f"{sigma:g}" for sigma in sigmas])
    ax.set_xlabel("sigma, px of the 40x40 input, on log2(1 + sigma)")
