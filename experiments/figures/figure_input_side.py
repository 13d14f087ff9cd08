"""Does a foundation model need 224 px? Macro-F1 against its input side.

    cellpatch train -m model=dinov2_s model.weights.file=FILE model.backbone.input_px=56,112,224 ...
    cellpatch figures runs figure_input_side          # or: make figure_input_side RUNS=runs

Of pretrained models that were run at several sides: a panel a model and adapt, a line a flag_limit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes

from cellpatch.analysis.baselines import largest_class
from cellpatch.analysis.groups import SeedGroup
from cellpatch.cli.figures import main_of_figure
from cellpatch.figures.captions import group_by_value, sample_size_caption
from cellpatch.figures.families import End, label_ends
from cellpatch.figures.palette import Style, numbered_style
from cellpatch.figures.plotting import Drawing, add_title, draw_baseline, draw_curve, new_panels, styled
from cellpatch.figures.tables import format_ci
from cellpatch.metrics.scores import macro_f1
from cellpatch.optics.conditions import CLEAN
from cellpatch.runs.coordinates import GroupCoordinates

ACROSS = 3


@styled
def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """Macro-F1 on clean cells against the side of the input, px."""
    curves = _side_curves(groups)
    if not curves:
        raise ValueError("no model was run at several input sides: model.backbone.input_px=56,112,224 adds them")
    labels = list(dict.fromkeys(curve.label for curve in curves))
    figure, axes = new_panels(labels, ACROSS, 50, 18, sharey=True)
    add_title(figure, f"{data}, a line a flag_limit")
    missing: dict[str, str] = {}
    ends = []
    for ax, label in zip(axes, labels, strict=True):
        of_label = [curve for curve in curves if curve.label == label]
        sides = sorted({side for curve in of_label for side in curve.by_side})
        limits = sorted(curve.limit for curve in of_label)
        ends.append([_draw(ax, curve, sides, numbered_style(limits.index(curve.limit))) for curve in of_label])
        for curve in of_label:
            missing[f"{label} at {curve.limit}"] = ", ".join(f"{s} px" for s in sides if s not in curve.by_side)
        ax.set_xscale("log")
        ax.set_xticks(sides, list(map(str, sides)))
        ax.minorticks_off()
    figure.supxlabel("input side, px", fontsize=8)
    figure.supylabel("macro-F1, test", fontsize=8)
    draw_baseline(axes, largest_class(groups, macro_f1))
    label_ends(figure, zip(axes, ends, strict=True))
    caption = f"Macro-F1 against the side of the resized cells, {data}; dotted: always naming the largest class. "
    caption += sample_size_caption([group for curve in curves for group in curve.by_side.values()], groups)
    gaps = "".join(f" No runs with {which}: {names}." for which, names in group_by_value(missing).items() if which)
    return Drawing("figure_input_side", figure, caption + gaps)


@dataclass(frozen=True)
class SideCurve:
    """The groups of one label and flag_limit by their input side, px."""

    label: str
    limit: int
    by_side: dict[int, SeedGroup]

    def summary(self, side: int) -> tuple[float, float, float]:
        """Macro-F1 on clean cells and its interval; NaN where there are no runs."""
        if side not in self.by_side:
            return (np.nan,) * 3
        return self.by_side[side].estimate(CLEAN, macro_f1).summary()


def _side_curves(groups: Sequence[SeedGroup]) -> list[SideCurve]:
    """Curves of what was run at several sides; labels have the optics where these differ among them."""
    by_rest: dict[GroupCoordinates, dict[int, SeedGroup]] = {}
    for group in groups:
        by_rest.setdefault(replace(group.coordinates, input_px=0), {})[group.coordinates.input_px] = group
    several = {rest: by_side for rest, by_side in by_rest.items() if len(by_side) > 1}
    with_optics = len({rest.optics for rest in several}) > 1
    return [
        SideCurve(
            ", ".join([rest.model, rest.adapt, *([rest.optics] if with_optics else [])]), rest.flag_limit, by_side
        )
        for rest, by_side in several.items()
    ]


def _draw(ax: Axes, curve: SideCurve, sides: Sequence[int], style: Style) -> End:
    """Draw a curve; gives its last point."""
    y = [curve.summary(side) for side in sides]
    texts = [f"limit {curve.limit}, {side} px, macro-F1 {format_ci(*ci)}" for side, ci in zip(sides, y, strict=True)]
    draw_curve(ax, sides, y, curve.label, texts, next(iter(curve.by_side.values())).coordinates, style)
    last = max(curve.by_side)
    return End(last, curve.summary(last)[0], str(curve.limit), style.color)


if __name__ == "__main__":
    main_of_figure(draw)
