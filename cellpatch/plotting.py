"""One style for all figures: one colour and marker per model, sizes for a paper's column."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
from matplotlib.figure import Figure

from cellpatch import config
from cellpatch.publish import replacing

P = ParamSpec("P")
T = TypeVar("T")

COLUMN_MM = 86  # a column of a two-column journal
# Okabe & Ito's palette, safe for colour-blind readers; the models' order is fixed so that colours never move.
_COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000", "#8B7500"]
_MARKERS = "osD^vP*X"
_STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "svg.hashsalt": "cellpatch",
    "pdf.fonttype": 42,
}


def styled(draw: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function that draws: all in it is in the house style."""

    @wraps(draw)
    def within(*arguments: P.args, **named: P.kwargs) -> T:
        with mpl.rc_context(_STYLE):
            return draw(*arguments, **named)

    return within


def new_figure(width_mm: float = COLUMN_MM, height_mm: float = 65) -> Figure:
    """A figure with one pair of axes, sides in millimetres."""
    figure = Figure(figsize=(width_mm / 25.4, height_mm / 25.4), layout="constrained")
    figure.subplots()
    return figure


def looks(models: list[str]) -> dict[str, dict[str, Any]]:
    """Colour and marker of each model, by its place among conf/model's, so that no figure's choice moves them.

    Models trained from scratch come first and have a colour each; a pretrained one shares a colour, never the
    pair of colour and marker.
    """
    pretrained = config.models()
    known = sorted(pretrained, key=lambda name: pretrained[name])
    places = {name: i for i, name in enumerate([*known, *sorted(set(models) - set(known))])}
    n = len(_COLOURS)
    return {
        name: {"color": _COLOURS[places[name] % n], "marker": _MARKERS[(places[name] + places[name] // n) % n]}
        for name in models
    }


def save(figure: Figure, name: str, folder: Path = Path("figures")) -> list[Path]:
    """Write PNG and PDF; gives their paths."""
    files = [folder / f"{name}.{kind}" for kind in ("png", "pdf")]
    for file in files:
        with replacing(file) as temporary:
            figure.savefig(temporary, dpi=300)
    return files
