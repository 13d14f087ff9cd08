"""Is a class hard because its cells lie among others'? F1 of each class against how far it lies apart in features.

    python -m cellpatch.features runs/*          # writes a card into each record; needs the crops
    python experiments/figure_separability.py runs          # or: make figure_separability RUNS=runs

Apart: of a cell's ten nearest neighbours from other specimens, the share of its own class (means over seeds). At the
flag_limit that most models have.
"""

from collections.abc import Sequence

import numpy as np
from figure_specimens import NEEDED, cards

from cellpatch.conditions import CLEAN
from cellpatch.estimates import Group, at_one_limit, labelled, limit_of, told
from cellpatch.plotting import Drawing, draw_from, finish, look_at, new_figure, styled, tip
from cellpatch.stats import class_f1


@styled
def draw(data: str, groups: Sequence[Group]) -> Drawing:
    """A point a class and model; the dotted line is chance."""
    chosen = labelled(at_one_limit([group for group in groups if cards(group)]))
    if not chosen:
        raise ValueError(NEEDED)
    figure, [axes] = new_figure(height_mm=85)
    for label, group in chosen.items():
        style = look_at(group.place)
        for code, name in enumerate(group.runs[0].record["classes"]):
            shares = [card["separability"][name] for card in cards(group) if name in card["separability"]]
            if not shares:
                continue
            estimate = group.estimate(CLEAN, class_f1(code))
            low, high = estimate.interval()
            axes.vlines([np.mean(shares)], low, high, color=style["color"], linewidth=0.8, alpha=0.4)
            [point] = axes.plot([np.mean(shares)], [estimate.mean], linestyle="", markersize=4, **style)
            tip(
                point, f"{label}, {name}: {np.mean(shares):.2f} apart, F1 {estimate.mean:.3f} ({low:.3f} to {high:.3f})"
            )
        axes.plot([], [], linestyle="", label=label, **style)
    axes.axvline(cards(next(iter(chosen.values())))[0]["separability_chance"], color="0.6", linestyle=":", linewidth=1)
    axes.set_xlabel("neighbours of the same class, share")
    axes.set_ylabel("F1 of the class, test")
    finish(figure, f"{data}, flag_limit {limit_of(chosen)}")
    caption = f"F1 of each class against its separability in features (dotted: chance), {data}. "
    return Drawing("figure_separability", figure, caption + told(list(chosen.values())))


if __name__ == "__main__":
    draw_from(draw)
