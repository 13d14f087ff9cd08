"""How models look: one colour and marker per model, a line per adaptation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from cellpatch.analysis.baselines import COLOUR
from cellpatch.config.schema import models
from cellpatch.runs.coordinates import CurveCoordinates

Dashes = str | tuple[int, tuple[int, ...]]
SCRATCH_PX, PRETRAINED_PX = 40, 224  # the study's inputs of models from scratch and of pretrained ones
# The study's models in the order of their names: a model of one's own comes after them and moves no colour.
STUDY = ["cnn", "convnext", "customvit", "densenet", "efficientnet", "nin", "resnet", "se_resnet"]
# Safe for colour-blind readers: Okabe & Ito's palette with a brown for its yellow, and for pretrained models Paul Tol's
# muted one. Models whose weights a package brings have colours far from all of the first.
_SCRATCH = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000", "#661100"]
_NEXT = "#4D1A59"  # of the ninth model from scratch: a model beside the study's eight shares no colour with them
_MARKERS = "osD^vP*X"
# Each colour with the markers that it takes in turn: colours of equal markers are far apart for protanopes and
# deuteranopes too (a test measures it).
_PRETRAINED = {
    "#AA4499": "DP",
    "#DDCC77": "DPv*X<>pdh",
    "#332288": "vsX<>",
    "#882255": "^*pdh",
    "#117733": "*sP<>pdh",
    "#CC6677": "vsX<>pdh",
    "#44AA99": "*oP",
    "#999933": "o^",
    "#6699CC": "vsX<>pdh",
}
# The study's backbones, and those of our own figures: other published models come after them and move no colour.
_FIRST = ["ctranspath", "resnet_rs50", "dinov2_s", "efficientnet_lite0", "uni"]
LINESTYLES: dict[str, Dashes] = {
    "scratch": "-",
    "mim": (0, (5, 1, 1, 1)),
    "distil": (0, (2, 1)),
    "linear_probe": "--",
    "knn": ":",
    "prototypes": (0, (1, 3)),
    "ft_last": "-.",
    "ft_all": (0, (6, 1)),
    "lora": (0, (3, 1, 1, 1, 1, 1)),
}


@dataclass(frozen=True)
class Style:
    """The look of a mark: colour and marker of its model, and how the marker is filled."""

    color: str
    marker: str
    fillstyle: Literal["full", "none", "bottom"] = "full"

    def marker_properties(self) -> dict[str, str]:
        """As keyword arguments of `Axes.plot`."""
        return {"color": self.color, "marker": self.marker, "fillstyle": self.fillstyle}


def model_style(model: str) -> Style:
    """Colour and marker of a model, by its place in conf/model: the choice of a figure does not change them.

    Where there are more models than colours, two share a colour, never the pair of colour and marker (up to 51
    published ones). A model that conf/model no longer has is grey.
    """
    return _styles().get(model, Style("0.5", "x"))


@cache  # reading all files of conf/model takes long, and each mark of a figure asks
def _styles() -> dict[str, Style]:
    return assign_styles(models())


def assign_styles(pretrained: dict[str, bool]) -> dict[str, Style]:
    """A look for each model, by whether it is pretrained."""
    own = sorted(name for name in pretrained if not pretrained[name] and name not in STUDY)
    published = [name for name in pretrained if pretrained[name] and name not in (COLOUR, *_FIRST)]
    looks = {COLOUR: Style("0.35", "+")}
    for index, name in enumerate([*STUDY, *own]):
        looks[name] = _numbered(index, (*_SCRATCH, _NEXT))
    turns = range(max(map(len, _PRETRAINED.values())))
    pairs = [(each, markers[turn]) for turn in turns for each, markers in _PRETRAINED.items() if turn < len(markers)]
    for index, name in enumerate([*_FIRST, *published]):
        looks[name] = Style(*pairs[index % len(pairs)])
    return looks


def group_style(coordinates: CurveCoordinates) -> Style:
    """The look of a group or curve.

    Hollow if its input has another side than in the study, half filled if it was trained on blur.
    """
    style = model_style(coordinates.model)
    if coordinates.input_px != (SCRATCH_PX if coordinates.own_weights else PRETRAINED_PX):
        return replace(style, fillstyle="none")
    return replace(style, fillstyle="bottom") if "trained on" in coordinates.optics else style


# Ways of adapting one model, where a panel shows a single one.
_WAYS = ("linear_probe", "knn", "prototypes", "ft_last", "ft_all", "lora")


def way_style(coordinates: CurveCoordinates) -> Style:
    """Colour and marker of a way of adapting; hollow as for `group_style`."""
    index = _WAYS.index(coordinates.method) if coordinates.method in _WAYS else len(_WAYS)
    return replace(group_style(coordinates), color=_SCRATCH[index], marker=_MARKERS[index])


def numbered_style(code: int) -> Style:
    """Colour and marker of what has this number among others of its kind, such as classes; up to 64 differ."""
    return _numbered(code, _SCRATCH)


def _numbered(code: int, colors: Sequence[str]) -> Style:
    turn, place = divmod(code, len(colors))
    return Style(colors[place], _MARKERS[(place + turn) % len(_MARKERS)])
