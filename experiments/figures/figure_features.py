"""Do features separate the classes? Test cells on the two directions in which each model's features differ most.

    cellpatch features runs          # writes a card into each record; needs the crops
    cellpatch figures runs figure_features          # or: make figure_features RUNS=runs

Principal components of standardised features, of one seed, as many cells of each class. Directions of one model are
not those of another. At the flag_limit that most models have.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from cellpatch.analysis.feature_cards import feature_cards, feature_cards_caption, groups_with_feature_cards
from cellpatch.analysis.groups import SeedGroup, limit_of
from cellpatch.cli.figures import main_of_figure
from cellpatch.figures.captions import end_label, missing_groups_caption, sample_size_caption
from cellpatch.figures.families import End, label_ends
from cellpatch.figures.palette import numbered_style
from cellpatch.figures.plotting import Drawing, add_title, add_tooltip, new_panels, styled
from cellpatch.runs.cards import FeatureMap

ACROSS = 3


@styled
def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """A panel a model; each class has its colour and marker, and a line from its median to its name."""
    with_cards = groups_with_feature_cards(groups)
    maps = {label: found for label, group in with_cards.items() if (found := _map(group)) is not None}
    if not maps:
        raise ValueError("no card of features has a map: cellpatch features RUNS of this version writes it")
    chosen = {label: with_cards[label] for label in maps}
    figure, axes = new_panels(list(maps), ACROSS, 60, 12)
    ends = []
    for ax, (label, found) in zip(axes, maps.items(), strict=True):
        ends.append(_draw(ax, label, found, chosen[label].runs[0].record.classes))
    add_title(figure, f"{data}, flag_limit {limit_of(chosen)}")
    label_ends(figure, zip(axes, ends, strict=True))
    cells = sum(map(len, next(iter(maps.values())).points.values()))
    caption = (
        f"Features of {cells} test cells on their first two principal components, as many of each class, or all of one "
        f"that has fewer, {data}; percent of the variance beside the axes. Directions differ between models. "
    )
    sizes = sample_size_caption(list(chosen.values()), groups, intervals="the map is of one seed")
    missing = missing_groups_caption("No map of features", chosen, groups)
    return Drawing("figure_features", figure, f"{caption}{sizes} {feature_cards_caption(chosen)}{missing}")


def _map(group: SeedGroup) -> FeatureMap | None:
    return next((card.map for card in feature_cards(group) if card.map is not None), None)


def _draw(ax: Axes, label: str, found: FeatureMap, classes: Sequence[str]) -> list[End]:
    """Draw the cells of a map by class; gives the median of each class."""
    ends = []
    for name, points in found.points.items():
        style, places = numbered_style(classes.index(name)), np.array(points)
        [cells] = ax.plot(*places.T, style.marker, color=style.color, markersize=2.5, alpha=0.6, linestyle="")
        add_tooltip(cells, f"{label}: {len(points)} cells of {name}")
        x, y = np.median(places, axis=0)
        ends.append(End(float(x), float(y), end_label(name), style.color))
    first, second = (f"{100 * share:.0f} %" for share in found.explained)
    ax.set_xlabel(first, fontsize=7)
    ax.set_ylabel(second, fontsize=7)
    ax.set_xticks([])
    ax.set_yticks([])
    return ends


if __name__ == "__main__":
    main_of_figure(draw)
