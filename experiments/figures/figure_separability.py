"""Is a class hard because its cells lie among others'? F1 of each class against how far it lies apart in features.

    cellpatch features runs          # writes a card into each record; needs the crops
    cellpatch figures runs figure_separability          # or: make figure_separability RUNS=runs

A panel a model, a mark a class. Apart: of a cell's ten nearest neighbours from other specimens, the share of its own
class (means over seeds). At the flag_limit that most models have.
"""

from collections.abc import Sequence

from matplotlib.axes import Axes

from cellpatch.analysis.estimates import mean_over_seeds
from cellpatch.analysis.feature_cards import feature_cards, feature_cards_caption, groups_with_feature_cards
from cellpatch.analysis.groups import SeedGroup, limit_of
from cellpatch.cli.figures import main_of_figure
from cellpatch.figures.captions import end_label, missing_groups_caption, sample_size_caption
from cellpatch.figures.families import End, label_ends
from cellpatch.figures.palette import numbered_style
from cellpatch.figures.plotting import Drawing, add_title, draw_point, new_panels, styled
from cellpatch.figures.tables import format_ci
from cellpatch.metrics.scores import class_f1
from cellpatch.optics.conditions import CLEAN

ACROSS = 3


@styled
def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """A panel a model, a mark a class with its name beside it; the dotted line is chance."""
    chosen = groups_with_feature_cards(groups)
    figure, axes = new_panels(list(chosen), ACROSS, 48, 15, sharex=True, sharey=True)
    chance = feature_cards(next(iter(chosen.values())))[0].separability_chance
    ends = []
    for ax, (label, group) in zip(axes, chosen.items(), strict=True):
        ends.append(_draw(ax, label, group))
        ax.axvline(chance, color="0.6", linestyle=":", linewidth=1)
    figure.supxlabel("neighbours of the same class, share", fontsize=8)
    figure.supylabel("F1 of the class, test", fontsize=8)
    add_title(figure, f"{data}, flag_limit {limit_of(chosen)}")
    label_ends(figure, zip(axes, ends, strict=True))
    caption = f"F1 of each class against its separability in features (dotted: chance), {data}. Neighbours are "
    caption += "among as many cells of each class as the rarest has. "
    missing = missing_groups_caption("No card of features", chosen, groups)
    return Drawing(
        "figure_separability",
        figure,
        f"{caption}{sample_size_caption(list(chosen.values()), groups)} {feature_cards_caption(chosen)}{missing}",
    )


def _draw(ax: Axes, label: str, group: SeedGroup) -> list[End]:
    """Draw the classes of a model; gives where they are."""
    ends = []
    for code, name in enumerate(group.runs[0].record.classes):
        shares = [card.separability[name] for card in feature_cards(group) if name in card.separability]
        if not shares:
            continue
        style, apart = numbered_style(code), mean_over_seeds(shares)
        score = group.estimate(CLEAN, class_f1(code)).summary()
        words = f"{format_ci(*apart, 2)} apart, F1 {format_ci(*score)}"
        draw_point(ax, apart, score, style, f"{label}, {name}: {words}")
        ends.append(End(apart[0], score[0], end_label(name), style.color))
    return ends


if __name__ == "__main__":
    main_of_figure(draw)
