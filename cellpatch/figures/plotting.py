"""One style for all figures: one colour and marker per model, values that a page shows, sizes for a paper's column."""

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, wraps
from itertools import count
from math import ceil
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, StrMethodFormatter

from cellpatch.analysis.estimates import Estimate
from cellpatch.analysis.groups import SeedGroup
from cellpatch.config.schema import models
from cellpatch.figures.captions import file_name
from cellpatch.figures.tables import format_ci
from cellpatch.runtime.atomic_io import atomic_write

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

SCRATCH_PX, PRETRAINED_PX = 40, 224  # the study's inputs of models from scratch and of pretrained ones
COLUMN_MM, PAGE_MM, LEGEND_ROW_MM = 86, 178, 3.7  # a column and both of a two-column journal; a line of a legend
# Safe for colour-blind readers: Okabe & Ito's palette with a brown for its yellow, and for pretrained models Paul Tol's
# muted one. Those whose weights are had offline have colours far from all of the first.
_SCRATCH = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000", "#661100"]
_PRETRAINED = ["#AA4499", "#DDCC77", "#332288", "#882255", "#117733", "#CC6677", "#44AA99", "#999933", "#6699CC"]
_MARKERS = "osD^vP*X"
LINESTYLES: dict[str, Any] = {
    "scratch": "-",
    "linear_probe": "--",
    "knn": ":",
    "prototypes": (0, (1, 3)),
    "ft_last": "-.",
    "ft_all": (0, (6, 1)),
    "lora": (0, (3, 1, 1, 1, 1, 1)),
}
# Classes are named in many scripts; matplotlib's own font has no Chinese or Japanese characters.
_CJK = ("Noto Sans CJK JP", "Noto Sans JP", "IPAexGothic", "IPAGothic", "Hiragino Sans", "Yu Gothic", "MS Gothic")
_INSTALLED = {font.name for font in font_manager.fontManager.ttflist}
_STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans", *(name for name in _CJK if name in _INSTALLED)],
    "font.size": 8,
    "text.parse_math": False,  # a class may be named CD8$^+$
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 8,
    "axes.titlelocation": "left",
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "legend.handlelength": 3.2,  # what dashes are told apart by
    "svg.hashsalt": "cellpatch",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class Drawing:
    """A figure and what stands below it."""

    name: str
    figure: Figure
    caption: str


def styled(draw: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function that draws: all in it is in the house style."""

    @wraps(draw)
    def within(*arguments: P.args, **named: P.kwargs) -> T:
        with mpl.rc_context(_STYLE):
            return draw(*arguments, **named)

    return within


def new_figure(
    width_mm: float = COLUMN_MM, height_mm: float = 65, rows: int = 1, columns: int = 1, **shared: Any
) -> tuple[Figure, list[Axes]]:
    """A figure and its axes row by row, sides in millimetres; `shared` as for `Figure.subplots`."""
    figure = Figure(figsize=(width_mm / 25.4, height_mm / 25.4), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False, **shared).flat)


@cache
def model_style(model: str) -> dict[str, Any]:
    """Colour and marker of a model, by its place among conf/model's, so that no figure's choice moves them.

    Where there are more models than colours two share one, never the pair of colour and marker. A model that
    conf/model no longer has is grey.
    """
    pretrained = models()
    if model not in pretrained:
        return {"color": "0.5", "marker": "x"}
    colours = _PRETRAINED if pretrained[model] else _SCRATCH
    place = [name for name in pretrained if pretrained[name] == pretrained[model]].index(model)
    return {"color": colours[place % len(colours)], "marker": _MARKERS[place % len(_MARKERS)]}


def group_style(place: Mapping[str, Any]) -> dict[str, Any]:
    """The look of a model at a place in a grid.

    Hollow if its input has another side than in the study, half filled if it was trained on blur.
    """
    hollow = place["input_px"] != (SCRATCH_PX if place["adapt"] == "scratch" else PRETRAINED_PX)
    fill = {"fillstyle": "none"} if hollow else {"fillstyle": "bottom"} if "trained on" in place["optics"] else {}
    return model_style(place["model"]) | fill


def add_title_and_legend(figure: Figure, title: str) -> None:
    """A title at the left, and one legend of all axes below, for whose rows but one the figure grows."""
    figure.suptitle(title, fontsize=8, x=0.01, ha="left")
    entries = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if entries:
        widest_mm = 13 + 1.2 * max(map(len, entries))
        columns = max(1, int(25.4 * figure.get_figwidth() / widest_mm))
        columns = min(columns, len(entries))
        figure.set_figheight(figure.get_figheight() + (ceil(len(entries) / columns) - 1) * LEGEND_ROW_MM / 25.4)
        figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns)


def add_tooltip(artist: Artist, text: str) -> None:
    """Let a page show this text when one points at the artist."""
    figure = artist.get_figure(root=True)
    assert figure is not None
    numbers = vars(figure).setdefault("_tip_numbers", count())
    artist.set_gid(f"tip-{next(numbers)}")
    vars(figure).setdefault("_tips", {})[artist.get_gid()] = text


def save(drawing: Drawing, folder: Path = Path("figures")) -> list[Path]:
    """Write PNG, PDF and the caption as text; gives their paths."""
    files = [folder / f"{drawing.name}.{kind}" for kind in ("png", "pdf")]
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        drawing.figure.draw_without_rendering()
        drawing.figure.set_layout_engine("none")  # as laid out now: it takes longer than the drawing
        for file in files:
            with atomic_write(file) as temporary:
                drawing.figure.savefig(temporary, dpi=300)
    boxes = [each for each in warned if "missing from font" in str(each.message)]
    for each in warned:
        if each not in boxes:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    if boxes:
        told = "%s: characters that no font here has are boxes; after installing one (Noto Sans CJK) delete %s"
        log.warning(told, drawing.name, f"{mpl.get_cachedir()}/fontlist*.json")
    with atomic_write(folder / f"{drawing.name}.txt") as temporary:
        temporary.write_text(drawing.caption + "\n", encoding="utf-8")
    return [*files, folder / f"{drawing.name}.txt"]


def draw_curve(
    axes: Axes,
    x: Sequence[float],
    y: Sequence[tuple[float, float, float]],
    label: str,
    told: Sequence[str],
    place: Mapping[str, Any],
) -> None:
    """Values of a model with their low and high ends over rising x, a tip each; over NaN the line is a faint one."""
    style, line = group_style(place), LINESTYLES[place["adapt"]]
    values, low, high = np.array(y, float).reshape(-1, 3).T
    axes.plot(x, values, linestyle=line, color=style["color"], linewidth=1.2)
    there = np.isfinite(values)
    if not there.all():
        axes.plot(np.array(x)[there], values[there], linestyle=line, color=style["color"], linewidth=0.5, alpha=0.5)
    axes.vlines(x, low, high, color=style["color"], linewidth=0.8, alpha=0.6)
    for at, value, text in zip(x, values, told, strict=True):
        if np.isfinite(value):
            [point] = axes.plot([at], [value], linestyle="", markersize=4, **style)
            add_tooltip(point, f"{label}: {text}")
    axes.plot([], [], linestyle=line, markersize=4, label=label, **style)  # the legend's


def draw_point(
    axes: Axes, x: float, estimate: Estimate, place: Mapping[str, Any], text: str, label: str | None = None
) -> None:
    """A score with its interval at x, and a tip that says both after `text`; a pretrained one's adapt stands beside."""
    style = group_style(place)
    value, low, high = estimate.summary()
    axes.vlines([x], low, high, color=style["color"], linewidth=0.8, alpha=0.6)
    [point] = axes.plot([x], [value], linestyle="", markersize=5, label=label, **style)
    add_tooltip(point, f"{text} {format_ci(value, low, high)}")
    if place["adapt"] != "scratch":
        short = place["adapt"].removeprefix("linear_")
        axes.annotate(short, (x, value), xytext=(4, 2), textcoords="offset points", fontsize=5, color="0.3")


def limit_axis(axes: Axes, counts: Mapping[int, int]) -> None:
    """Flag limits on a log axis, below each the number of training cells."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(counts), [f"{limit}\n({cells})" for limit, cells in counts.items()])
    turn_ticks(axes, len(counts) > 5)
    axes.minorticks_off()
    axes.set_xlabel("flag_limit: most annotations per class (cells in all)")


def turn_ticks(axes: Axes, many: bool) -> None:
    """Upright words below an axis that has many."""
    axes.tick_params(axis="x", labelrotation=90 if many else 0)


def log_axis(axes: Axes) -> None:
    """A log axis of x, its powers of ten as plain numbers: the style sets no formulas. Where it has few, others too."""
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.4)))


Draw = Callable[[str, Sequence[SeedGroup]], Drawing]


def draw_one(draw: Draw, data: str, by_data: Mapping[str, Sequence[SeedGroup]]) -> Drawing:
    """The drawing of one data set, named after it if there are several."""
    drawing = draw(data, by_data[data])
    return drawing if len(by_data) == 1 else replace(drawing, name=file_name(drawing.name, data))
