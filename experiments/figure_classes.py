"""Which classes need more annotations? F1 of each class against flag_limit.

    python experiments/figure_classes.py runs          # or: make figure_classes RUNS=runs

Of two curves: the best model from scratch and the best pretrained one, by macro-F1 at their largest limit.
"""

from collections.abc import Sequence
from math import ceil

from cellpatch.captions import labelled, on_axis, told
from cellpatch.curves import Curve, curves
from cellpatch.groups import Group
from cellpatch.plotting import PAGE_MM, Drawing, draw_curve, draw_from, finish, new_figure, styled
from cellpatch.stats import class_f1, macro_f1
from cellpatch.typeset import with_interval

ACROSS = 4


@styled
def draw(data: str, groups: Sequence[Group]) -> Drawing:
    """A panel a class that has test cells, with their number and how many cells of it each limit trains on."""
    leaders = best_of_both(labelled(curves(groups)))
    run = groups[0].runs[0]
    true = next(iter(run.confusions.values())).sum(axis=(0, 2))
    classes = [(code, name) for code, name in enumerate(run.record["classes"]) if true[code] > 0]
    columns = min(ACROSS, len(classes))
    rows = ceil(len(classes) / columns)
    figure, axes = new_figure(PAGE_MM, 20 + 42 * rows, rows, columns, sharex=True, sharey=True)
    for place, (code, name) in zip(axes, classes, strict=False):
        for label, curve in leaders.items():
            estimates = curve.estimates(curve.limits, class_f1(code))
            y = [estimate.summary() for estimate in estimates]
            cells = [group.runs[0].record["counts"]["train"].get(name, 0) for group in curve.groups]
            told_of = [
                f"{name}, F1 {with_interval(*ends)} with {n} cells of it" for n, ends in zip(cells, y, strict=True)
            ]
            draw_curve(place, curve.limits, y, label, told_of, curve.place)
        place.set_title(f"{on_axis(name)}, n = {true[code]}", fontsize=7)
        place.set_xscale("log", base=2)
    for place in axes[len(classes) :]:
        place.set_visible(False)
    limits = sorted({limit for curve in leaders.values() for limit in curve.limits})
    axes[0].set_xticks(limits, list(map(str, limits)))
    axes[0].minorticks_off()
    for i, place in enumerate(axes[: len(classes)]):
        if i % columns == 0:
            place.set_ylabel("F1, test")
        if i >= len(classes) - columns:
            place.set_xlabel("flag_limit")
            place.tick_params(labelbottom=True)
    finish(figure, data)
    caption = f"F1 of each class against annotations per class, {data}; n: its test cells. "
    return Drawing("figure_classes", figure, caption + told([g for curve in leaders.values() for g in curve.groups]))


def best_of_both(found: dict[str, Curve]) -> dict[str, Curve]:
    """The best curve from scratch and the best pretrained one, each by macro-F1 at its largest limit."""
    leaders = {}
    for scratch in (True, False):
        kind = {label: curve for label, curve in found.items() if (curve.place["adapt"] == "scratch") == scratch}
        if kind:
            top = max(kind, key=lambda label: kind[label].estimates(kind[label].limits[-1:], macro_f1)[0].mean)
            leaders[top] = kind[top]
    return leaders


if __name__ == "__main__":
    draw_from(draw)
