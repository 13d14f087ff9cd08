"""Is a class hard because its cells lie among others'? F1 of each class against how far it lies apart in features.

    cellpatch features runs          # writes a card into each record; needs the crops
    cellpatch figures runs figure_separability          # or: make figure_separability RUNS=runs

Apart: of a cell's ten nearest neighbours from other specimens, the share of its own class (means over seeds). At the
flag_limit that most models have.
"""

from collections.abc import Sequence
from typing import Any

from cellpatch.analysis.estimates import mean_over_seeds
from cellpatch.analysis.feature_cards import feature_cards, feature_cards_caption, groups_with_feature_cards
from cellpatch.analysis.groups import SeedGroup, limit_of
from cellpatch.cli.figures import main_of_figure
from cellpatch.figures.captions import missing_groups_caption, sample_size_caption
from cellpatch.figures.palette import group_style
from cellpatch.figures.plotting import Drawing, add_title_and_legend, draw_point, new_figure, styled
from cellpatch.figures.tables import format_ci
from cellpatch.metrics.scores import class_f1
from cellpatch.optics.conditions import CLEAN


@styled
def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """A point a class and model; the dotted line is chance."""
    chosen = groups_with_feature_cards(groups)
    figure, [ax] = new_figure(height_mm=85)
    for label, group in chosen.items():
        for code, name in enumerate(group.runs[0].record.classes):
            shares = [card.separability[name] for card in feature_cards(group) if name in card.separability]
            if not shares:
                continue
            apart, low, high = mean_over_seeds(shares)
            text = f"{label}, {name}: {format_ci(apart, low, high, 2)} apart, F1"
            score = group.estimate(CLEAN, class_f1(code))
            ax.hlines([score.mean], low, high, color=group_style(group.coordinates).color, linewidth=0.8, alpha=0.6)
            draw_point(ax, apart, score, group.coordinates, text)
            ax.annotate(f"{code + 1}", (apart, score.mean), xytext=(-7, 2), textcoords="offset points", fontsize=5)
        marker: dict[str, Any] = group_style(group.coordinates).marker_properties()
        ax.plot([], [], linestyle="", label=label, **marker)
    chance = feature_cards(next(iter(chosen.values())))[0].separability_chance
    ax.axvline(chance, color="0.6", linestyle=":", linewidth=1)
    ax.set_xlabel("neighbours of the same class, share")
    ax.set_ylabel("F1 of the class, test")
    add_title_and_legend(figure, f"{data}, flag_limit {limit_of(chosen)}")
    classes = ", ".join(f"{i} {name}" for i, name in enumerate(groups[0].runs[0].record.classes, 1))
    caption = f"F1 of each class against its separability in features (dotted: chance), {data}. Neighbours are "
    caption += f"among as many cells of each class as the rarest has. Classes: {classes}. "
    missing = missing_groups_caption("No card of features", chosen, groups)
    return Drawing(
        "figure_separability",
        figure,
        f"{caption}{sample_size_caption(list(chosen.values()), groups)} {feature_cards_caption(chosen)}{missing}",
    )


if __name__ == "__main__":
    main_of_figure(draw)
