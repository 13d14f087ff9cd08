"""What does a better score cost to train? Macro-F1 against hours of cores or of GPUs, over all flag_limits.

    cellpatch figures runs figure_cost          # or: make figure_cost RUNS=runs

Panels of GPUs stand apart from those of CPUs; of each, models from scratch come first. A line joins the limits of a
model, the smallest first. Core hours are wall hours of the fit times threads, medians over seeds; of a probe, with
the one pass over the cells that made its features, which all probes of a model and input side share. GPU hours are
wall hours of a training on one GPU, whatever else it did.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from cellpatch.analysis.baselines import largest_class
from cellpatch.analysis.costs import machines, training_cost
from cellpatch.analysis.curves import LearningCurve, learning_curves
from cellpatch.analysis.groups import SeedGroup
from cellpatch.analysis.labels import by_label
from cellpatch.cli.figures import main_of_figure
from cellpatch.figures.captions import cost_caption, group_by_value, sample_size_caption
from cellpatch.figures.families import End, Family, Member, families, label_ends
from cellpatch.figures.plotting import (
    Drawing,
    add_title,
    draw_baseline,
    draw_curve,
    figure_width,
    log_axis,
    new_figure,
    styled,
)
from cellpatch.figures.tables import format_ci
from cellpatch.metrics.scores import macro_f1
from cellpatch.runs.coordinates import GroupCoordinates
from cellpatch.runtime.numbers import rounded


@styled
def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """Macro-F1 on clean test cells against hours on a log axis; raises ValueError if no record states them."""
    costs = {group.coordinates: training_cost(group, groups) for group in groups}
    by_unit = {
        "core hours": {place: cost.core_seconds / 3600 for place, cost in costs.items() if cost.core_seconds},
        "GPU hours": {place: cost.gpu_seconds / 3600 for place, cost in costs.items() if cost.gpu_seconds},
    }
    whole = by_label(learning_curves(groups), groups)
    units = sorted(by_unit, key=lambda unit: -len(by_unit[unit]))
    panels = [panel for unit in units for panel in _panels(unit, by_unit[unit], whole)]
    if not panels:
        raise ValueError("no record states seconds and threads or GPU of a training")
    figure, axes = new_figure(figure_width(len(panels)), 78, columns=len(panels), sharey=True)
    add_title(figure, data)
    ends = [panel.draw(ax) for ax, panel in zip(axes, panels, strict=True)]
    axes[0].set_ylabel("macro-F1, test")
    draw_baseline(axes, largest_class(groups, macro_f1))
    label_ends(figure, zip(axes, ends, strict=True))
    drawn = [group for group in groups if any(group.coordinates in hours for hours in by_unit.values())]
    limits = ", ".join(map(str, sorted({group.coordinates.flag_limit for group in drawn})))
    measured = " and ".join(unit for unit in units if by_unit[unit])
    caption = f"Macro-F1 against {measured}, {data}; a line joins the points of a model at flag_limit {limits}; "
    caption += "dotted: always naming the largest class. "
    on_gpu = bool(by_unit["GPU hours"])
    caption += f"{cost_caption(machines([run for group in drawn for run in group.trainings]), on_gpu)} "
    known = {place for hours in by_unit.values() for place in hours}
    return Drawing("figure_cost", figure, caption + sample_size_caption(drawn, groups) + _unknown(whole, known))


@dataclass(frozen=True)
class _Panel:
    """Models of one family whose trainings cost hours of one unit; `hours` are of all models, for one scale."""

    unit: str
    family: Family
    curves: Mapping[str, LearningCurve]
    hours: Mapping[GroupCoordinates, float]

    def draw(self, ax: Axes) -> list[End]:
        ends = []
        for label, member in self.family.members.items():
            curve = self.curves[label]
            ends.append(_draw(ax, label, curve, [self.hours[group.coordinates] for group in curve.groups], member))
        ax.set_title(self.family.title)
        ax.set_xlabel(f"{self.unit} of a training")
        log_axis(ax)
        low, high = min(self.hours.values()) / 1.4, max(self.hours.values()) * 1.4
        ax.set_xlim(low, max(high, 12 * low))  # over a decade, so that decades alone are named
        return ends


def _panels(unit: str, hours: Mapping[GroupCoordinates, float], whole: Mapping[str, LearningCurve]) -> list[_Panel]:
    """A panel for each family that has points in this unit."""
    curves = {label: _among(curve, hours) for label, curve in whole.items()}
    known = {label: curve for label, curve in curves.items() if curve.groups}
    found = families({label: curve.coordinates for label, curve in known.items()}) if known else []
    return [_Panel(unit, family, known, hours) for family in found]


def _among(curve: LearningCurve, hours: Mapping[GroupCoordinates, float]) -> LearningCurve:
    """The curve at the limits whose cost is known."""
    return LearningCurve(curve.coordinates, tuple(group for group in curve.groups if group.coordinates in hours))


def _unknown(whole: Mapping[str, LearningCurve], known: Collection[GroupCoordinates]) -> str:
    """For the caption: which limits of which models are not drawn, because their cost is not known."""
    lacking = {
        label: ", ".join(str(group.coordinates.flag_limit) for group in curve.groups if group.coordinates not in known)
        for label, curve in whole.items()
    }
    return "".join(
        f" Hours are not known at {limits}: {labels}." for limits, labels in group_by_value(lacking).items() if limits
    )


def _draw(ax: Axes, label: str, curve: LearningCurve, hours: Sequence[float], member: Member) -> End:
    """Draw a curve; gives its last point."""
    y = [estimate.summary() for estimate in curve.estimates(curve.limits, macro_f1)]
    texts = [
        f"macro-F1 {format_ci(*ends)} at {limit} for {rounded(spent)} hours"
        for ends, limit, spent in zip(y, curve.limits, hours, strict=True)
    ]
    draw_curve(ax, hours, y, label, texts, curve.coordinates, member.style)
    return End(hours[-1], y[-1][0], member.short, member.style.color)


if __name__ == "__main__":
    main_of_figure(draw)
