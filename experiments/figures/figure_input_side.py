"""Does a foundation model need 224 px? Macro-F1 against its input side.

    python train.py -m model=dinov2_s model.weights.file=FILE model.backbone.input_px=56,112,224 ...
    python experiments/figure_input_side.py runs          # or: make figure_input_side RUNS=runs

Of pretrained models that were run at several sides, one curve a model, adapt and flag_limit.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from cellpatch.analysis.groups import SeedGroup
from cellpatch.cli.figures import main_of_figure
from cellpatch.figures.captions import group_by_value, sample_size_caption
from cellpatch.figures.plotting import Drawing, add_title_and_legend, draw_curve, new_figure, styled
from cellpatch.figures.tables import format_ci
from cellpatch.metrics.scores import macro_f1
from cellpatch.optics.conditions import CLEAN


@styled
def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """Macro-F1 on clean cells against the side of the input, px."""
    axis: dict[tuple[str, str, str, int], list[SeedGroup]] = {}
    for group in groups:
        axis.setdefault(tuple(group.place[key] for key in ("model", "adapt", "optics", "flag_limit")), []).append(group)
    axis = {key: of for key, of in axis.items() if len(of) > 1}
    several = len({optics for _, _, optics, _ in axis}) > 1
    if not axis:
        raise ValueError("no model was run at several input sides: model.backbone.input_px=56,112,224 does so")
    figure, [axes] = new_figure(height_mm=85)
    sides_of: dict[str, set[int]] = {}
    named = [(", ".join(words[: 3 if several else 2]), limit, of) for (*words, limit), of in axis.items()]
    for label, _, of in named:
        sides_of.setdefault(label, set()).update(group.place["input_px"] for group in of)
    missing, ends = {}, []
    for label, limit, of in named:
        sides = sorted(sides_of[label])
        y, told_of = [(np.nan,) * 3] * len(sides), [""] * len(sides)
        for group in of:
            at = sides.index(group.place["input_px"])
            y[at] = group.estimate(CLEAN, macro_f1).summary()
            told_of[at] = f"limit {limit}, {sides[at]} px, macro-F1 {format_ci(*y[at])}"
        draw_curve(axes, sides, y, label, told_of, of[0].place)
        lacks = [f"{side} px" for side, (value, _, _) in zip(sides, y, strict=True) if np.isnan(value)]
        missing[f"{label} at {limit}"] = ", ".join(lacks)
        last = of[-1].place["input_px"]
        ends.append((y[sides.index(last)][0], last, limit))
    _write_limits(axes, ends)
    sides = sorted({group.place["input_px"] for of in axis.values() for group in of})
    axes.set_xscale("log")
    axes.set_xticks(sides, list(map(str, sides)))
    axes.minorticks_off()
    axes.set_xlabel("input side, px")
    axes.set_ylabel("macro-F1, test")
    add_title_and_legend(figure, f"{data}, a line a flag_limit")
    caption = f"Macro-F1 against the side that cells are resized to, {data}. "
    caption += sample_size_caption([group for of in axis.values() for group in of])
    holes = "".join(f" No runs with {which}: {names}." for which, names in group_by_value(missing).items() if which)
    return Drawing("figure_input_side", figure, caption + holes)


def _write_limits(axes: Axes, ends: Sequence[tuple[float, int, int]]) -> None:
    """Beside the last mark of each line (score, side, limit) its limit, none over another."""
    low, high = axes.get_ylim()
    at = dict.fromkeys((side for _, side, _ in ends), -np.inf)
    for score, side, limit in sorted(ends):
        at[side] = max(score, at[side] + 0.04 * (high - low))
        axes.annotate(str(limit), (side, at[side]), xytext=(5, 0), textcoords="offset points", va="center", size=6)


if __name__ == "__main__":
    main_of_figure(draw)
