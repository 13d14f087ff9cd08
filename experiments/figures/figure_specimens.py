"""Do features that separate classes also separate specimens (batch effect)?

Macro-F1 against how well features predict the specimen.

    cellpatch features runs          # writes a card into each record; needs the crops
    cellpatch figures runs figure_specimens          # or: make figure_specimens RUNS=runs

At the flag_limit that most models have; means over the seeds that have a card, with intervals over these seeds alone.
"""

from collections.abc import Sequence

from matplotlib.axes import Axes

from cellpatch.analysis.estimates import mean_over_seeds
from cellpatch.analysis.feature_cards import feature_cards, feature_cards_caption, groups_with_feature_cards
from cellpatch.analysis.groups import SeedGroup, limit_of
from cellpatch.cli.figures import main_of_figure
from cellpatch.figures.captions import missing_groups_caption, sample_size_caption
from cellpatch.figures.families import End, Member, families, label_ends
from cellpatch.figures.plotting import Drawing, add_title, draw_point, figure_width, new_figure, styled
from cellpatch.figures.tables import format_ci
from cellpatch.metrics.scores import macro_f1
from cellpatch.optics.conditions import CLEAN


@styled
def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """A mark a model, a panel a family of them; the dotted line is what naming the largest specimen would reach."""
    chosen = groups_with_feature_cards(groups)
    panels = families({label: group.coordinates for label, group in chosen.items()})
    shared = {"sharex": True, "sharey": True}  # so that the panels compare
    figure, axes = new_figure(figure_width(len(panels)), 75, columns=len(panels), **shared)
    chance = feature_cards(next(iter(chosen.values())))[0].specimen_chance
    ends = []
    for ax, family in zip(axes, panels, strict=True):
        ends.append([_draw(ax, label, chosen[label], member) for label, member in family.members.items()])
        ax.axvline(chance, color="0.6", linestyle=":", linewidth=1)
        ax.set_title(family.title)
    axes[0].set_ylabel("macro-F1, test")
    figure.supxlabel("share of test cells whose specimen features predict", fontsize=8)
    add_title(figure, f"{data}, flag_limit {limit_of(chosen)}")
    label_ends(figure, zip(axes, ends, strict=True))
    caption = (
        f"Macro-F1 against how well features predict the specimen (dotted: the largest specimen's share), {data}. "
    )
    missing = missing_groups_caption("No card of features", chosen, groups)
    return Drawing(
        "figure_specimens",
        figure,
        f"{caption}{sample_size_caption(list(chosen.values()), groups)} {feature_cards_caption(chosen)}{missing}",
    )


def _draw(ax: Axes, label: str, group: SeedGroup, member: Member) -> End:
    """Draw a model; gives where it is."""
    accuracy = mean_over_seeds([card.specimen_accuracy for card in feature_cards(group)])
    score = group.estimate(CLEAN, macro_f1).summary()
    words = f"predicts the specimen of {format_ci(*accuracy)} of the cells, macro-F1 {format_ci(*score)}"
    draw_point(ax, accuracy, score, member.style, f"{label}: {words}")
    return End(accuracy[0], score[0], member.short, member.style.color)


if __name__ == "__main__":
    main_of_figure(draw)
