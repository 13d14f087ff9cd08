"""Small multiples: curves in panels of at most MOST, each with direct labels in place of a legend."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cellpatch.analysis.curves import side_title
from cellpatch.figures.palette import Style, group_style, way_style
from cellpatch.runs.coordinates import CurveCoordinates

MOST = 10  # curves of a panel
_MOST_MODELS = 3  # pretrained ones with a panel each: more would leave no panel room
_CONNECTOR: dict[str, Any] = {"arrowstyle": "-", "linewidth": 0.4, "relpos": (0, 0.5), "shrinkA": 0, "shrinkB": 2}
_LABEL_PT, _GAP = 6.5, 1.15  # of labels, and their distance in heights of a line


@dataclass(frozen=True)
class Member:
    """A curve of a panel: what it is called there, and its look."""

    short: str
    style: Style


@dataclass(frozen=True)
class Family:
    """A panel: its title and its curves by label."""

    title: str
    members: Mapping[str, Member]


def families(curves: Mapping[str, CurveCoordinates]) -> list[Family]:
    """Curves without published weights first, then pretrained ones: together if they are few, else in several panels.

    Those are a panel a model, or a panel a way of adapting if the models are many. Where a panel has several models
    and ways, markers of pretrained curves are of the ways; in the panel of a single model, colours are so too.
    """
    own = [label for label, at in curves.items() if at.own_weights]
    pretrained = [label for label in curves if label not in own]
    title = side_title(curves[label] for label in own)
    found = [_of_many(title, part, curves) for part in _parts(own)]
    if len(pretrained) <= MOST and len({curves[label].model for label in pretrained}) > 2:
        return [*found, *([_of_many("pretrained", pretrained, curves)] if pretrained else [])]
    models, ways = (list(dict.fromkeys(getattr(curves[k], part) for k in pretrained)) for part in ("model", "adapt"))
    if len(models) > _MOST_MODELS:
        by_way = {way: [label for label in pretrained if curves[label].adapt == way] for way in ways}
        return [*found, *(_of_way(way, part, curves) for way, labels in by_way.items() for part in _parts(labels))]
    for model in models:
        of_model = [label for label in pretrained if curves[label].model == model]
        found += [_of_model(model, part, curves) for part in _parts(of_model)]
    return found


def _parts(labels: Sequence[str]) -> list[Sequence[str]]:
    return [labels[i : i + MOST] for i in range(0, len(labels), MOST)]


def _of_many(title: str, labels: Sequence[str], curves: Mapping[str, CurveCoordinates]) -> Family:
    members = {}
    for label in labels:
        style = group_style(curves[label])
        marker = style.marker if curves[label].own_weights else way_style(curves[label]).marker
        members[label] = Member(label, replace(style, marker=marker))
    return Family(title, members)


def _of_way(way: str, labels: Sequence[str], curves: Mapping[str, CurveCoordinates]) -> Family:
    shorts = [label.replace(f", {way}", "", 1) for label in labels]
    members = zip(labels, shorts, strict=True)
    return Family(way, {label: Member(short, group_style(curves[label])) for label, short in members})


def _of_model(model: str, labels: Sequence[str], curves: Mapping[str, CurveCoordinates]) -> Family:
    sides = {curves[label].input_px for label in labels}
    side = f", {min(sides)} px" if len(sides) == 1 and all(label.endswith(" px") for label in labels) else ""
    shorts = [label.removeprefix(f"{model}, ").removesuffix(side) for label in labels]
    members = {label: Member(short, way_style(curves[label])) for label, short in zip(labels, shorts, strict=True)}
    return Family(f"{model}{side}", members)


class End(NamedTuple):
    """The last point of a curve, in data coordinates, and its label."""

    x: float
    y: float
    text: str
    color: str


def label_ends(figure: Figure, panels: Iterable[tuple[Axes, Sequence[End]]]) -> None:
    """Write each label at the right of its axes, at the height of its curve's end or as near as others leave room.

    Call it when the limits of the axes are final.
    """
    figure.draw_without_rendering()  # the layout gives the axes their height
    for ax, ends in panels:
        height_pt = ax.get_window_extent().height * 72 / figure.dpi
        to_axes = ax.transData + ax.transAxes.inverted()
        rising = sorted(ends, key=lambda end: end.y)
        wanted = [float(to_axes.transform((end.x, end.y))[1]) for end in rising]
        for end, at in zip(rising, spread(wanted, _LABEL_PT * _GAP / height_pt), strict=True):
            ax.annotate(
                end.text,
                (end.x, end.y),
                xytext=(1.04, at),
                textcoords="axes fraction",
                va="center",
                fontsize=_LABEL_PT,
                color=end.color,
                annotation_clip=False,
                arrowprops={"color": end.color, **_CONNECTOR},
            )


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Rising places, `gap` apart at least, near the wanted ones: clusters are moved apart around their middle."""
    clusters: list[list[float]] = []  # wanted places of each
    for place in wanted:
        clusters.append([place])
        while len(clusters) > 1 and _last(clusters[-2], gap) + gap > _first(clusters[-1], gap):
            clusters[-2:] = [clusters[-2] + clusters[-1]]
    return [_first(cluster, gap) + i * gap for cluster in clusters for i in range(len(cluster))]


def _first(cluster: Sequence[float], gap: float) -> float:
    return sum(cluster) / len(cluster) - gap * (len(cluster) - 1) / 2


def _last(cluster: Sequence[float], gap: float) -> float:
    return _first(cluster, gap) + gap * (len(cluster) - 1)
