"""Do features that tell classes apart also tell specimens apart? Macro-F1 against how well features name the specimen.

    python -m cellpatch.features runs/*          # writes a card into each record; needs the crops
    python experiments/figure_specimens.py runs          # or: make figure_specimens RUNS=runs

At the flag_limit that most models have; means over the seeds that have a card.
"""

from collections.abc import Sequence

import numpy as np

from cellpatch.conditions import CLEAN
from cellpatch.estimates import Group, at_one_limit, labelled, limit_of, told
from cellpatch.plotting import Drawing, draw_from, finish, look_at, new_figure, styled, tip
from cellpatch.stats import macro_f1

NEEDED = "no run has a card of its features: python -m cellpatch.features RUNS/* writes them"


@styled
def draw(data: str, groups: Sequence[Group]) -> Drawing:
    """A point a model; the dotted line is what naming the largest specimen would reach."""
    chosen = labelled(at_one_limit([group for group in groups if cards(group)]))
    if not chosen:
        raise ValueError(NEEDED)
    figure, [axes] = new_figure(height_mm=80)
    for label, group in chosen.items():
        named = float(np.mean([card["specimen_accuracy"] for card in cards(group)]))
        estimate = group.estimate(CLEAN, macro_f1)
        low, high = estimate.interval()
        style = look_at(group.place)
        axes.vlines([named], low, high, color=style["color"], linewidth=0.8, alpha=0.6)
        [point] = axes.plot([named], [estimate.mean], linestyle="", markersize=5, label=label, **style)
        tip(
            point,
            f"{label}: names {100 * named:.0f} % of specimens, macro-F1 {estimate.mean:.3f} ({low:.3f} to {high:.3f})",
        )
    axes.axvline(cards(next(iter(chosen.values())))[0]["specimen_chance"], color="0.6", linestyle=":", linewidth=1)
    axes.set_xlabel("share of test cells whose specimen features name")
    axes.set_ylabel("macro-F1, test")
    finish(figure, f"{data}, flag_limit {limit_of(chosen)}")
    caption = f"Macro-F1 against specimens named from features (dotted: the largest specimen's share), {data}. "
    return Drawing("figure_specimens", figure, caption + told(list(chosen.values())))


def cards(group: Group) -> list[dict]:
    """Those of its seeds that have one."""
    return [run.record["features"] for run in group.runs if run.record.get("features")]


if __name__ == "__main__":
    draw_from(draw)
