"""Two panels of curves over all sigmas of blur, a curve a model: what figures of blur share."""

from collections.abc import Callable, Mapping

from matplotlib.figure import Figure

from cellpatch.groups import Group, limit_of
from cellpatch.plotting import PAGE_MM, draw_curve, finish, new_figure
from cellpatch.stats import blur_axis
from cellpatch.typeset import with_interval

Curve = dict[float, tuple[float, float, float]]  # by sigma, a value and the ends of its interval, NaN if it has none


def draw_panels(
    data: str, chosen: Mapping[str, Group], panels: Mapping[str, Callable[[Group], Curve]], what: str
) -> Figure:
    """`what` against log2(1 + sigma); `panels` are titles and what gives a group's curve there."""
    figure, axes = new_figure(PAGE_MM, 85, columns=len(panels), sharey=True)
    for place, (title, curve_of) in zip(axes, panels.items(), strict=True):
        found: set[float] = set()
        for i, (label, group) in enumerate(chosen.items()):
            curve = curve_of(group)
            texts = [f"sigma {sigma:g}, {what} {with_interval(*ends)}" for sigma, ends in curve.items()]
            shift = 0.02 * (i - (len(chosen) - 1) / 2)  # beside each other, so that intervals are seen
            x = blur_axis(list(curve)) + shift
            draw_curve(place, x.tolist(), list(curve.values()), label, texts, group.place)
            found |= set(curve)
        sigmas = sorted(found)
        place.set_xticks(blur_axis(sigmas), [f"{sigma:g}" for sigma in sigmas])
        place.set_xlabel("sigma, px of the 40x40 input, on log2(1 + sigma)")
        place.set_title(title)
    axes[0].set_ylabel(f"{what}, test")
    finish(figure, f"{data}, flag_limit {limit_of(chosen)}")
    return figure
