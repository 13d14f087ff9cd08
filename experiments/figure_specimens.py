"""Do features that tell classes apart also tell specimens apart? Macro-F1 against how well features name the specimen.

    python -m cellpatch.features runs/*          # writes a card into each record; needs the crops
    python experiments/figure_specimens.py runs          # or: make figure_specimens RUNS=runs

At the flag_limit that most models have; means over the seeds that have a card, with intervals over these seeds alone.
"""

from collections.abc import Mapping, Sequence

from cellpatch.captions import labelled, lacking, told
from cellpatch.conditions import CLEAN
from cellpatch.estimates import over_seeds
from cellpatch.groups import Group, at_one_limit, limit_of
from cellpatch.plotting import Drawing, draw_from, draw_point, finish, look_at, new_figure, styled
from cellpatch.stats import macro_f1
from cellpatch.typeset import with_interval


@styled
def draw(data: str, groups: Sequence[Group]) -> Drawing:
    """A point a model; the dotted line is what naming the largest specimen would reach."""
    chosen = with_cards(groups)
    figure, [axes] = new_figure(height_mm=80)
    for label, group in chosen.items():
        named, low, high = over_seeds([card["specimen_accuracy"] for card in cards(group)])
        text = f"{label}: names the specimen of {with_interval(named, low, high)} of the cells, macro-F1"
        score = group.estimate(CLEAN, macro_f1)
        axes.hlines([score.mean], low, high, color=look_at(group.place)["color"], linewidth=0.8)
        draw_point(axes, named, score, group.place, text, label)
    axes.axvline(cards(next(iter(chosen.values())))[0]["specimen_chance"], color="0.6", linestyle=":", linewidth=1)
    axes.set_xlabel("share of test cells whose specimen features name")
    axes.set_ylabel("macro-F1, test")
    finish(figure, f"{data}, flag_limit {limit_of(chosen)}")
    caption = f"Macro-F1 against specimens named from features (dotted: the largest specimen's share), {data}. "
    missing = lacking("No card of features", chosen, groups)
    return Drawing("figure_specimens", figure, f"{caption}{told(list(chosen.values()))} {cards_told(chosen)}{missing}")


def with_cards(groups: Sequence[Group]) -> dict[str, Group]:
    """Groups of one limit that have cards of their features; raises ValueError if there are none."""
    chosen = labelled(at_one_limit([group for group in groups if cards(group)]), groups)
    if not chosen:
        raise ValueError("no run has a card of its features: python -m cellpatch.features RUNS/* writes them")
    return chosen


def cards_told(chosen: Mapping[str, Group]) -> str:
    """For captions: how many seeds and cells the cards are of."""
    seeds = sorted({len(cards(group)) for group in chosen.values()})
    words = f"{' or '.join(map(str, seeds))} seed{'s' * (seeds != [1])}"
    n = cards(next(iter(chosen.values())))[0]["n"]
    return f"Along the axis of features: of {words}, of at most {n} cells, with intervals over seeds alone if several."


def cards(group: Group) -> list[dict]:
    """Those of its seeds that have one."""
    return [run.record["features"] for run in group.runs if run.record.get("features")]


if __name__ == "__main__":
    draw_from(draw)
