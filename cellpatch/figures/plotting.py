"""One style for all figures: sizes for a paper's column, marks with their intervals, tooltips for a page."""

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

from cellpatch.analysis.baselines import Baseline
from cellpatch.analysis.groups import SeedGroup
from cellpatch.figures.captions import file_name, synthetic_prefix
from cellpatch.figures.palette import LINESTYLES, Style, group_style
from cellpatch.runs.coordinates import CurveCoordinates
from cellpatch.runtime.atomic_io import atomic_write

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

COLUMN_MM, PAGE_MM, LEGEND_ROW_MM = 86, 178, 3.7  # a column and both of a two-column journal; a line of a legend
_ACROSS = 4  # panels that a page has room for
# Classes are named in many scripts; matplotlib's own font has no Chinese or Japanese characters.
_CJK = ("Noto Sans CJK JP", "Noto Sans JP", "IPAexGothic", "IPAGothic", "Hiragino Sans", "Yu Gothic", "MS Gothic")
_STYLE: dict[Any, Any] = {
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
    "legend.handlelength": 3.2,  # long enough to distinguish dashes
    "svg.hashsalt": "cellpatch",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class Drawing:
    """A figure, its name and its caption."""

    name: str
    figure: Figure
    caption: str


def styled(draw: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function that draws, so that it draws in the house style."""

    @wraps(draw)
    def within(*arguments: P.args, **named: P.kwargs) -> T:
        with mpl.rc_context({"font.family": _fonts()} | _STYLE):
            return draw(*arguments, **named)

    return within


@cache  # the fonts of a machine do not change while a process draws, and it has hundreds
def _fonts() -> list[str]:
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in _CJK if name in installed)]


def new_figure(
    width_mm: float = COLUMN_MM, height_mm: float = 65, rows: int = 1, columns: int = 1, **shared: Any
) -> tuple[Figure, list[Axes]]:
    """A figure and its axes row by row, sides in millimetres; `shared` as for `Figure.subplots`."""
    figure = Figure(figsize=(width_mm / 25.4, height_mm / 25.4), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False, **shared).flat)


def figure_width(columns: int) -> float:
    """Millimetres of a figure of so many panels side by side: up to four share a page, more are wider than one."""
    return PAGE_MM * max(1, columns / _ACROSS) if columns > 1 else 1.3 * COLUMN_MM


def new_panels(
    titles: Sequence[str], across: int, height_mm: float, rest_mm: float, **shared: Any
) -> tuple[Figure, list[Axes]]:
    """A page-wide figure with a panel a title, at most `across` beside each other; a narrower one for few.

    `height_mm` is that of a row, `rest_mm` of what stands above and below all. `shared` as for `Figure.subplots`.
    """
    columns = min(across, len(titles))
    rows = ceil(len(titles) / columns)
    figure, axes = new_figure(PAGE_MM * max(2, columns) / across, rest_mm + height_mm * rows, rows, columns, **shared)
    for ax, title in zip(axes, titles, strict=False):
        ax.set_title(title.replace(", ", "\n", 1), fontsize=7)
    for ax in axes[len(titles) :]:
        ax.set_visible(False)
    return figure, axes[: len(titles)]


def add_title(figure: Figure, title: str) -> None:
    """Add a title at the left."""
    figure.suptitle(title, fontsize=8, x=0.01, ha="left")


def add_title_and_legend(figure: Figure, title: str) -> None:
    """Add a title at the left and one legend of all axes below; the figure grows by its rows beyond the first."""
    add_title(figure, title)
    entries = {
        label: handle for ax in figure.axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    if entries:
        widest_mm = 13 + 1.2 * max(map(len, entries))
        columns = max(1, int(25.4 * figure.get_figwidth() / widest_mm))
        columns = min(columns, len(entries))
        figure.set_figheight(figure.get_figheight() + (ceil(len(entries) / columns) - 1) * LEGEND_ROW_MM / 25.4)
        figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns)


def add_tooltip(artist: Artist, text: str) -> None:
    """Let a page show this text when a reader points at the artist."""
    figure = artist.get_figure(root=True)
    assert figure is not None
    numbers = vars(figure).setdefault("_tip_numbers", count())
    artist.set_gid(f"tip-{next(numbers)}")
    vars(figure).setdefault("_tips", {})[artist.get_gid()] = text


def tooltips(figure: Figure) -> dict[str, str]:
    """The texts that `add_tooltip` stored, by the ids of their artists."""
    tips: dict[str, str] = vars(figure).get("_tips", {})
    return tips


def save(drawing: Drawing, folder: Path = Path("figures")) -> list[Path]:
    """Write PNG, PDF and the caption as text; gives the paths of the files."""
    files = [folder / f"{drawing.name}.{kind}" for kind in ("png", "pdf")]
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        drawing.figure.draw_without_rendering()
        drawing.figure.set_layout_engine("none")  # keep this layout: making it takes longer than drawing
        for file in files:
            with atomic_write(file) as temporary:
                drawing.figure.savefig(temporary, dpi=300)
    missing_glyphs = [each for each in warned if "missing from font" in str(each.message)]
    for each in warned:
        if each not in missing_glyphs:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    if missing_glyphs:
        message = "%s: characters that no font here has are boxes; after installing one (Noto Sans CJK) delete %s"
        log.warning(message, drawing.name, f"{mpl.get_cachedir()}/fontlist*.json")
    with atomic_write(folder / f"{drawing.name}.txt") as temporary:
        temporary.write_text(drawing.caption + "\n", encoding="utf-8")
    return [*files, folder / f"{drawing.name}.txt"]


def draw_curve(
    ax: Axes,
    x: Sequence[float],
    y: Sequence[tuple[float, float, float]],
    label: str,
    texts: Sequence[str],
    coordinates: CurveCoordinates,
    style: Style | None = None,
) -> None:
    """Values with their low and high ends over rising x, each with a tooltip; a lighter line spans NaN.

    The look is that of the group if `style` is None.
    """
    style, linestyle = style or group_style(coordinates), LINESTYLES[coordinates.method]
    values, low, high = np.array(y, float).reshape(-1, 3).T
    ax.plot(x, values, linestyle=linestyle, color=style.color, linewidth=1.2)
    known = np.isfinite(values)
    if not known.all():
        ax.plot(np.array(x)[known], values[known], linestyle=linestyle, color=style.color, linewidth=1.0, alpha=0.6)
    ax.vlines(x, low, high, color=style.color, linewidth=0.8, alpha=0.6)
    marker: dict[str, Any] = style.marker_properties()
    for position, value, text in zip(x, values, texts, strict=True):
        if np.isfinite(value):
            [point] = ax.plot([position], [value], linestyle="", markersize=4, **marker)
            add_tooltip(point, f"{label}: {text}")
    ax.plot([], [], linestyle=linestyle, markersize=4, label=label, **marker)  # for the legend


def draw_point(ax: Axes, x: tuple[float, float, float], y: tuple[float, float, float], style: Style, text: str) -> None:
    """A mark at two values, each with its low and high ends, and a tooltip."""
    (at, left, right), (value, low, high) = x, y
    marker: dict[str, Any] = style.marker_properties()
    ax.hlines([value], left, right, color=style.color, linewidth=0.8, alpha=0.6)
    ax.vlines([at], low, high, color=style.color, linewidth=0.8, alpha=0.6)
    [point] = ax.plot([at], [value], linestyle="", markersize=5, **marker)
    add_tooltip(point, text)


def draw_baseline(axes: Sequence[Axes], baseline: Baseline, upright: bool = False) -> None:
    """A dotted line across all axes at the score of a rule, with its name and score in the first.

    It is `upright` where scores are along x.
    """
    score = baseline.score.mean
    words = f"{baseline.label} {score:.2f}"
    if upright:
        for ax in axes:
            ax.axvline(score, color="0.4", linestyle=":", linewidth=1, zorder=0)
        place = axes[0].get_xaxis_transform()
        axes[0].annotate(words, (score, 0), (3, 3), place, "offset points", fontsize=6, color="0.3", rotation=90)
        return
    for ax in axes:
        ax.axhline(score, color="0.4", linestyle=":", linewidth=1, zorder=0)
    place = axes[0].get_yaxis_transform()
    axes[0].annotate(words, (0.02, score), (0, 2), place, "offset points", fontsize=6, color="0.3")


def turn_ticks(ax: Axes, many: bool) -> None:
    """Upright words below an axis that has many."""
    ax.tick_params(axis="x", labelrotation=90 if many else 0)


def log_axis(ax: Axes) -> None:
    """A log axis of x, its powers of ten as decimal numbers: the style sets no formulas. Where few, others too."""
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.xaxis.set_minor_formatter(_Decimal(minor_thresholds=(1, 0.4)))


class _Decimal(LogFormatter):
    """Numbers such as 0.03, where matplotlib writes 3e-02."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


Draw = Callable[[str, Sequence[SeedGroup]], Drawing]


def draw_one(draw: Draw, data: str, by_data: Mapping[str, Sequence[SeedGroup]]) -> Drawing:
    """The drawing of one data set, named after it if there are several; its title says if the cells are synthetic."""
    drawing = draw(data, by_data[data])
    if prefix := synthetic_prefix(by_data[data]):
        add_title(drawing.figure, f"{prefix.upper()}{drawing.figure.get_suptitle()}")
    return drawing if len(by_data) == 1 else replace(drawing, name=file_name(drawing.name, data))
