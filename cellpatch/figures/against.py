"""Macro-F1 against an axis of the grid that describes the input: its side, or how much of the tissue it shows."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from cellpatch.analysis.baselines import largest_class
from cellpatch.analysis.groups import SeedGroup
from cellpatch.analysis.input_axes import AxisCurve, InputAxis, axis_curves
from cellpatch.figures.captions import group_by_value, sample_size_caption
from cellpatch.figures.families import End, label_ends
from cellpatch.figures.palette import Style, numbered_style
from cellpatch.figures.plotting import Drawing, add_title, draw_baseline, draw_curve, new_panels, styled
from cellpatch.figures.tables import format_ci
from cellpatch.metrics.scores import macro_f1

ACROSS = 3  # panels beside each other


@styled
def draw_against(axis: InputAxis, name: str, data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """A panel a model and adapt, a line a flag_limit; raises ValueError if nothing was run at several values."""
    curves = axis_curves(axis, groups)
    if not curves:
        raise ValueError(axis.advice)
    labels = list(dict.fromkeys(curve.label for curve in curves))
    figure, axes = new_panels(labels, ACROSS, 50, 18, sharey=True)
    add_title(figure, f"{data}, a line a flag_limit")
    missing: dict[str, str] = {}
    ends = []
    for ax, label in zip(axes, labels, strict=True):
        of_label = [curve for curve in curves if curve.label == label]
        values = sorted({value for curve in of_label for value in curve.by_value})
        limits = sorted(curve.limit for curve in of_label)
        ends.append([_draw(ax, axis, curve, values, numbered_style(limits.index(curve.limit))) for curve in of_label])
        for curve in of_label:
            lacking = [f"{value:g} {axis.unit}" for value in values if value not in curve.by_value]
            missing[f"{label} at {curve.limit}"] = ", ".join(lacking)
        ax.set_xscale("log")
        ax.set_xticks(values, [f"{value:g}" for value in values])
        ax.minorticks_off()
    figure.supxlabel(f"{axis.title}, {axis.unit}", fontsize=8)
    figure.supylabel("macro-F1, test", fontsize=8)
    draw_baseline(axes, largest_class(groups, macro_f1))
    label_ends(figure, zip(axes, ends, strict=True))
    caption = f"Macro-F1 against {axis.words}, {data}; dotted: always naming the largest class. "
    caption += sample_size_caption([group for curve in curves for group in curve.by_value.values()], groups)
    gaps = "".join(f" No runs with {which}: {names}." for which, names in group_by_value(missing).items() if which)
    return Drawing(name, figure, caption + gaps)


def _draw(ax: Axes, axis: InputAxis, curve: AxisCurve, values: Sequence[float], style: Style) -> End:
    """Draw a curve; gives its last point."""
    y = [curve.summary(value) for value in values]
    texts = [
        f"limit {curve.limit}, {value:g} {axis.unit}, macro-F1 {format_ci(*ci)}"
        for value, ci in zip(values, y, strict=True)
    ]
    draw_curve(ax, values, y, curve.label, texts, next(iter(curve.by_value.values())).coordinates, style)
    last = max(curve.by_value)
    return End(last, curve.summary(last)[0], str(curve.limit), style.color)
