"""Does macro-F1 grow with annotations, and from how many on does a small network stay ahead of a pretrained one?

    cellpatch figures runs figure3          # or: make figure3 RUNS=runs

First models trained from scratch, those that were pretrained on the study's own crops included; then models with
published weights, beside the best of the first at the largest limit (grey), at the limits that they were run at.
A triangle on the axis marks from where on that one stays ahead of a pretrained curve (up) or falls behind it (down),
linear in log2 between limits. Dotted: always naming the largest class. A dagger stands beside points with runs that
kept their first or last validation, and beside the name if the last point has such runs.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from cellpatch.analysis.baselines import largest_class
from cellpatch.analysis.curves import (
    LearningCurve,
    crossing_of_leader,
    format_limit_range,
    leader,
    learning_curves,
    shared_limits,
    side_title,
    split_by_adaptation,
)
from cellpatch.analysis.groups import SeedGroup
from cellpatch.analysis.labels import by_label
from cellpatch.cli.figures import main_of_figure
from cellpatch.figures.captions import missing_runs_caption, sample_size_caption
from cellpatch.figures.families import End, Family, Member, families, label_ends
from cellpatch.figures.plotting import (
    Drawing,
    add_title,
    add_tooltip,
    draw_baseline,
    draw_curve,
    figure_width,
    new_figure,
    styled,
    turn_ticks,
)
from cellpatch.figures.tables import format_ci
from cellpatch.metrics.scores import macro_f1

DAGGER = "†"  # beside points, or names, with runs that kept their first or last validation


@styled
def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """Macro-F1 on clean test cells against flag_limit."""
    curves = by_label(learning_curves(groups), groups)
    limits = sorted({limit for curve in curves.values() for limit in curve.limits})
    scratch, pretrained = split_by_adaptation(curves)
    panels = families({label: curve.coordinates for label, curve in curves.items()})
    figure, axes = new_figure(figure_width(len(panels)), 78, columns=len(panels), sharey=True)
    add_title(figure, data)
    counts = {limit: max(g.n_train for g in groups if g.coordinates.flag_limit == limit) for limit in limits}
    ends = []
    for ax, family in zip(axes, panels, strict=True):
        there = sorted({limit for label in family.members for limit in curves[label].limits})
        ends.append([_draw(ax, curves[label], there, label, member) for label, member in family.members.items()])
        ax.set_xscale("log", base=2)
        ax.set_xticks(there, [str(limit) for limit in there], fontsize=7)
        turn_ticks(ax, len(there) > 4)
        ax.minorticks_off()
        ax.set_title(family.title)
    axes[0].set_ylabel("macro-F1, test")
    draw_baseline(axes, largest_class(groups, macro_f1))
    figure.supxlabel("annotations per class at most (flag_limit)", fontsize=8)
    marks = ""
    if scratch and pretrained:
        rival = _Rival(scratch)
        words = [text for ax, family in zip(axes, panels, strict=True) for text in rival.mark(ax, family, pretrained)]
        marks = rival.caption(pretrained, words)
    label_ends(figure, zip(axes, ends, strict=True))
    run = {(label, limit) for label, curve in curves.items() for limit in curve.limits}
    missing = missing_runs_caption(list(curves), limits, run)
    cells = ", ".join(f"{counts[limit]} at {limit}" for limit in limits)
    caption = f"Macro-F1 against flag_limit, {data}; dotted: always naming the largest class. "
    caption += f"Training cells in all: {cells}. "
    caption += sample_size_caption(groups)
    if any(group.best_validations for group in groups):
        caption += f" {DAGGER} marks points with such runs, beside a name the last point."
    return Drawing("figure3", figure, caption + marks + missing)


def _draw(ax: Axes, curve: LearningCurve, limits: Sequence[int], label: str, member: Member) -> End:
    """Draw a curve; gives its last point."""
    y, texts = [], []
    for limit in limits:
        if limit not in curve.limits:
            y.append((np.nan,) * 3)
            texts.append("")
            continue
        [estimate] = curve.estimates([limit], macro_f1)
        y.append(estimate.summary())
        seeds = len(estimate.seeds)
        texts.append(f"macro-F1 {format_ci(*y[-1])} at {limit}, {seeds} seed{'s' * (seeds > 1)}")
        kept = curve.groups[curve.limits.index(limit)].best_validations
        texts[-1] += "".join(f"; {n} of {seeds} kept the {which} validation" for which, n in sorted(kept.items()))
        if kept and limit != curve.limits[-1]:
            at = (limit, y[-1][0])
            ax.annotate(DAGGER, at, (4, -9), textcoords="offset points", color=member.style.color, fontsize=9)
    draw_curve(ax, list(limits), y, label, texts, curve.coordinates, member.style)
    name = f"{member.short} {DAGGER}" if curve.groups[-1].best_validations else member.short
    return End(curve.limits[-1], y[list(limits).index(curve.limits[-1])][0], name, member.style.color)


class _Rival:
    """The best curve from scratch at the largest limit, which pretrained ones are compared with."""

    def __init__(self, scratch: Mapping[str, LearningCurve]) -> None:
        self.top = max(limit for curve in scratch.values() for limit in curve.limits)
        self.name, _ = leader(scratch, self.top)
        self.curve = scratch[self.name]
        self.side = side_title(curve.coordinates for curve in scratch.values()).removeprefix("trained ")

    def comparable(self, pretrained: Mapping[str, LearningCurve]) -> list[str]:
        """The labels of curves that share two limits with it."""
        return [label for label, curve in pretrained.items() if len(shared_limits(self.curve, curve)) > 1]

    def mark(self, ax: Axes, family: Family, pretrained: Mapping[str, LearningCurve]) -> list[str]:
        """Draw it in a pretrained family's panel and mark where curves cross; gives words for the caption."""
        labels = [label for label in family.members if label in pretrained]
        if not labels:
            return []
        means = [estimate.mean for estimate in self.curve.estimates(self.curve.limits, macro_f1)]
        ax.plot(self.curve.limits, means, color="0.6", linewidth=2.5, marker="o", markersize=4, zorder=0)
        found = []
        for label in self.comparable({label: pretrained[label] for label in labels}):
            text = self._mark_crossing(ax, label, pretrained[label], family.members[label])
            found += [text] if text else []
        return found

    def _mark_crossing(self, ax: Axes, label: str, curve: LearningCurve, member: Member) -> str:
        """Mark where the curve crosses it between limits that both have; gives the words, empty if it does not."""
        ahead, crossing = crossing_of_leader(self.curve, curve, macro_f1)
        if not 0 < crossing.limit < np.inf:
            return ""
        limits = format_limit_range(shared_limits(self.curve, curve), crossing.low, crossing.high)
        ends = "" if np.isnan(crossing.low) else f" ({limits})"
        place, marker = ([crossing.limit], [0.02]), "^" if ahead else "v"
        [mark] = ax.plot(*place, marker, color=member.style.color, transform=ax.get_xaxis_transform())
        text = f"{'stays ahead of' if ahead else 'is behind'} {label} from {crossing.limit:.0f}{ends} on"
        add_tooltip(mark, f"{self.name} {text}")
        return text

    def caption(self, pretrained: Mapping[str, LearningCurve], words: Sequence[str]) -> str:
        """What the caption says of it."""
        if words:
            return f" {self.name} (grey), the best {self.side} at {self.top}, " + "; ".join(words) + "."
        none = "no other curve has two limits in common with it"
        if self.comparable(pretrained):
            none = "it crosses no curve between common limits"
        return f" Grey: {self.name}, the best {self.side} at {self.top}; {none}."


if __name__ == "__main__":
    main_of_figure(draw)
