"""Do features that separate classes also separate specimens (batch effect)?

Macro-F1 against how well features predict the specimen.

    cellpatch features runs          # writes a card into each record; needs the crops
    cellpatch figures runs figure_specimens          # or: make figure_specimens RUNS=runs

At the flag_limit that most models have; means over the seeds that have a card, with intervals over these seeds alone.
"""

from collections.abc import Sequence

from cellpatch.analysis.estimates import mean_over_seeds
from cellpatch.analysis.feature_cards import feature_cards, feature_cards_caption, groups_with_feature_cards
from cellpatch.analysis.groups import SeedGroup, limit_of
from cellpatch.cli.figures import main_of_figure
from cellpatch.figures.captions import missing_groups_caption, sample_size_caption
from cellpatch.figures.palette import group_style
from cellpatch.figures.plotting import Drawing, add_title_and_legend, draw_point, new_figure, styled
from cellpatch.figures.tables import format_ci
from cellpatch.metrics.scores import macro_f1
from cellpatch.optics.conditions import CLEAN


@styled
def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """A point a model; the dotted line is what naming the largest specimen would reach."""
    chosen = groups_with_feature_cards(groups)
    figure, [ax] = new_figure(height_mm=80)
    for label, group in chosen.items():
        accuracy, low, high = mean_over_seeds([card.specimen_accuracy for card in feature_cards(group)])
        text = f"{label}: predicts the specimen of {format_ci(accuracy, low, high)} of the cells, macro-F1"
        score = group.estimate(CLEAN, macro_f1)
        ax.hlines([score.mean], low, high, color=group_style(group.coordinates).color, linewidth=0.8)
        draw_point(ax, accuracy, score, group.coordinates, text, label)
    chance = feature_cards(next(iter(chosen.values())))[0].specimen_chance
    ax.axvline(chance, color="0.6", linestyle=":", linewidth=1)
    ax.set_xlabel("share of test cells whose specimen features predict")
    ax.set_ylabel("macro-F1, test")
    add_title_and_legend(figure, f"{data}, flag_limit {limit_of(chosen)}")
    caption = (
        f"Macro-F1 against how well features predict the specimen (dotted: the largest specimen's share), {data}. "
    )
    missing = missing_groups_caption("No card of features", chosen, groups)
    return Drawing(
        "figure_specimens",
        figure,
        f"{caption}{sample_size_caption(list(chosen.values()), groups)} {feature_cards_caption(chosen)}{missing}",
    )


if __name__ == "__main__":
    main_of_figure(draw)
