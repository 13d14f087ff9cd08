"""What does a better score cost to train? Macro-F1 against core hours, over all flag_limits.

    cellpatch figures runs figure_cost          # or: make figure_cost RUNS=runs

First models trained from scratch, then pretrained ones. A line joins the limits of a model, the smallest first. Core
hours are wall hours of the fit times threads, medians over seeds; of a probe, with the one pass over the cells that
made its features, which all probes of a model and input side share.
"""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from cellpatch.analysis.baselines import largest_class
from cellpatch.analysis.costs import machines, training_cost
from cellpatch.analysis.curves import LearningCurve, learning_curves
from cellpatch.analysis.groups import SeedGroup
from cellpatch.analysis.labels import by_label
from cellpatch.cli.figures import main_of_figure
from cellpatch.figures.captions import cost_caption, group_by_value, sample_size_caption
from cellpatch.figures.families import End, Member, families, label_ends
from cellpatch.figures.plotting import (
    COLUMN_MM,
    PAGE_MM,
    Drawing,
    add_title,
    draw_baseline,
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
    known = {label: curve for label, curve in curves.items() if curve.groups}
    panels = families({label: curve.coordinates for label, curve in known.items()})
    shared = {"sharex": True, "sharey": True}  # one scale of cost, so that the panels compare
    figure, axes = new_figure(PAGE_MM if len(panels) > 1 else 1.3 * COLUMN_MM, 78, columns=len(panels), **shared)
    add_title(figure, data)
    ends = []
    for ax, family in zip(axes, panels, strict=True):
        of_curves = {label: [hours[group.coordinates] for group in known[label].groups] for label in family.members}
        ends.append([_draw(ax, k, known[k], of_curves[k], member) for k, member in family.members.items()])
        ax.set_title(family.title)
        log_axis(ax)
    axes[0].set_ylabel("macro-F1, test")
    draw_baseline(axes, largest_class(groups, macro_f1))
    figure.supxlabel("core hours of a training", fontsize=8)
    label_ends(figure, zip(axes, ends, strict=True))
    limits = ", ".join(map(str, sorted({group.coordinates.flag_limit for group in drawn})))
    caption = f"Macro-F1 against core hours, {data}; a line joins the points of a model at flag_limit {limits}; "
    caption += "dotted: always naming the largest class. "
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


def _draw(ax: Axes, label: str, curve: LearningCurve, hours: Sequence[float], member: Member) -> End:
    """Draw a curve; gives its last point."""
    y = [estimate.summary() for estimate in curve.estimates(curve.limits, macro_f1)]
    texts = [
        f"macro-F1 {format_ci(*ends)} at {limit} for {spent:.3g} core hours"
        for ends, limit, spent in zip(y, curve.limits, hours, strict=True)
    ]
    draw_curve(ax, hours, y, label, texts, curve.coordinates, member.style)
    return End(hours[-1], y[-1][0], member.short, member.style.color)


if __name__ == "__main__":
    main_of_figure(draw)
