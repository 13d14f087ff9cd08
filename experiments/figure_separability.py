"""Is a class hard because its cells lie among others'? F1 of each class against how far it lies apart in features.

    python -m cellpatch.features runs/*          # writes a card into each record; needs the crops
    python experiments/figure_separability.py runs          # or: make figure_separability RUNS=runs

Apart: of a cell's ten nearest neighbours from other specimens, the share of its own class (means over seeds). At the
flag_limit that most models have.
"""

from collections.abc import Sequence

from figure_specimens import cards, cards_told, with_cards

from cellpatch.captions import lacking, told
from cellpatch.conditions import CLEAN
from cellpatch.estimates import over_seeds
from cellpatch.groups import Group, limit_of
from cellpatch.plotting import Drawing, draw_from, draw_point, finish, look_at, new_figure, styled
from cellpatch.stats import class_f1
from cellpatch.typeset import with_interval


@styled
def draw(data: str, groups: Sequence[Group]) -> Drawing:
    """A point a class and model; the dotted line is chance."""
    chosen = with_cards(groups)
    figure, [axes] = new_figure(height_mm=85)
    for label, group in chosen.items():
        for code, name in enumerate(group.runs[0].record["classes"]):
            shares = [card["separability"][name] for card in cards(group) if name in card["separability"]]
            if not shares:
                continue
            apart, low, high = over_seeds(shares)
            text = f"{label}, {name}: {with_interval(apart, low, high, 2)} apart, F1"
            score = group.estimate(CLEAN, class_f1(code))
            axes.hlines([score.mean], low, high, color=look_at(group.place)["color"], linewidth=0.8, alpha=0.6)
            draw_point(axes, apart, score, group.place, text)
            axes.annotate(f"{code + 1}", (apart, score.mean), xytext=(-7, 2), textcoords="offset points", fontsize=5)
        axes.plot([], [], linestyle="", label=label, **look_at(group.place))
    axes.axvline(cards(next(iter(chosen.values())))[0]["separability_chance"], color="0.6", linestyle=":", linewidth=1)
    axes.set_xlabel("neighbours of the same class, share")
    axes.set_ylabel("F1 of the class, test")
    finish(figure, f"{data}, flag_limit {limit_of(chosen)}")
    classes = ", ".join(f"{i} {name}" for i, name in enumerate(groups[0].runs[0].record["classes"], 1))
    caption = f"F1 of each class against its separability in features (dotted: chance), {data}. Neighbours are "
    caption += f"among as many cells of each class as the rarest has. Classes: {classes}. "
    missing = lacking("No card of features", chosen, groups)
    return Drawing(
        "figure_separability", figure, f"{caption}{told(list(chosen.values()))} {cards_told(chosen)}{missing}"
    )


if __name__ == "__main__":
    draw_from(draw)
