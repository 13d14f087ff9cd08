"""What does a better score cost to train? Macro-F1 against core hours, over all flag_limits.

    cellpatch figures runs figure_cost          # or: make figure_cost RUNS=runs

Left: models trained from scratch. Right: pretrained ones. A line joins the limits of a model, the smallest first. Core
hours are wall hours of the fit times threads, medians over seeds; of a probe, with the one pass over the cells that
made its features, which all probes of a model and input side share.
"""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from cellpatch.analysis.costs import machines, training_cost
from cellpatch.analysis.curves import LearningCurve, learning_curves, split_by_adaptation
from cellpatch.analysis.groups import SeedGroup
from cellpatch.analysis.labels import by_label
from cellpatch.cli.figures import main_of_figure
from cellpatch.figures.captions import cost_caption, group_by_value, sample_size_caption
from cellpatch.figures.plotting import (
    COLUMN_MM,
    PAGE_MM,
    Drawing,
    add_title_and_legend,
    draw_curve,
    log_axis,
    new_figure,
    styled,
)
from cellpatch.figures.tables import format_ci
from cellpatch.metrics.scores import macro_f1
from cellpatch.runs.coordinates import GroupCoordinates


@styled
def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """Macro-F1 on clean test cells against core hours on a log axis; raises ValueError if no record states them."""
    costs = {group.coordinates: training_cost(group, groups).core_seconds for group in groups}
    hours = {place: seconds / 3600 for place, seconds in costs.items() if seconds is not None}
    if not hours:
        raise ValueError("no record states seconds and threads of a training on a CPU")
    drawn = [group for group in groups if group.coordinates in hours]
    whole = by_label(learning_curves(groups), groups)
    curves = {label: _among(curve, hours) for label, curve in whole.items()}
    panels = [panel for panel in split_by_adaptation({k: v for k, v in curves.items() if v.groups}) if panel]
    shared = {"sharex": True, "sharey": True}  # one scale of cost, so that the panels compare
    figure, axes = new_figure(PAGE_MM if len(panels) == 2 else COLUMN_MM, 90, columns=len(panels), **shared)
    for ax, panel in zip(axes, panels, strict=True):
        for label, curve in panel.items():
            _draw(ax, label, curve, [hours[group.coordinates] for group in curve.groups])
        scratch = all(curve.coordinates.from_scratch for curve in panel.values())
        ax.set_title("trained from scratch" if scratch else "pretrained")
        log_axis(ax)
        ax.set_xlabel("core hours of a training")
    axes[0].set_ylabel("macro-F1, test")
    add_title_and_legend(figure, data)
    limits = ", ".join(map(str, sorted({group.coordinates.flag_limit for group in drawn})))
    caption = f"Macro-F1 against core hours, {data}; a line joins the points of a model at flag_limit {limits}. "
    caption += f"{cost_caption(machines([run for group in drawn for run in group.runs]))} "
    return Drawing("figure_cost", figure, caption + sample_size_caption(drawn, groups) + _unknown(whole, curves))


def _among(curve: LearningCurve, hours: Mapping[GroupCoordinates, float]) -> LearningCurve:
    """The curve at the limits whose cost is known."""
    return LearningCurve(curve.coordinates, tuple(group for group in curve.groups if group.coordinates in hours))


def _unknown(whole: Mapping[str, LearningCurve], curves: Mapping[str, LearningCurve]) -> str:
    """For the caption: which limits of which models are not drawn, because their cost is not known."""
    lacking = {
        label: ", ".join(str(limit) for limit in curve.limits if limit not in curves[label].limits)
        for label, curve in whole.items()
    }
    return "".join(
        f" Core hours are not known at {limits}: {labels}."
        for limits, labels in group_by_value(lacking).items()
        if limits
    )


def _draw(ax: Axes, label: str, curve: LearningCurve, hours: Sequence[float]) -> None:
    y = [estimate.summary() for estimate in curve.estimates(curve.limits, macro_f1)]
    texts = [
        f"macro-F1 {format_ci(*ends)} at {limit} for {spent:.3g} core hours"
        for ends, limit, spent in zip(y, curve.limits, hours, strict=True)
    ]
    draw_curve(ax, hours, y, label, texts, curve.coordinates)


if __name__ == "__main__":
    main_of_figure(draw)
