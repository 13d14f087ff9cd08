"""How does macro-F1 fall with blur? Curves over all sigmas, after and before the resize, with their intervals.

    python experiments/figure_blur.py runs          # or: make figure_blur RUNS=runs

At the flag_limit that most models have.
"""

from collections.abc import Sequence

from cellpatch.estimates import Group, at_one_limit, blur_curve, labelled, limit_of, told, under_blur
from cellpatch.plotting import PAGE_MM, Drawing, draw_curve, draw_from, finish, new_figure, styled
from cellpatch.stats import blur_axis, macro_f1

TITLES = {"post": "after the resize (post)", "pre": "before the resize (pre)"}


@styled
def draw(data: str, groups: Sequence[Group]) -> Drawing:
    """Macro-F1 against log2(1 + sigma), a panel each for post and pre."""
    chosen = labelled(at_one_limit(under_blur(groups)))
    figure, axes = new_figure(PAGE_MM, 85, columns=2, sharey=True)
    for place, (kind, title) in zip(axes, TITLES.items(), strict=True):
        found: list[float] = []
        for i, (label, group) in enumerate(chosen.items()):
            sigmas, estimates = blur_curve(group, kind, macro_f1)
            y = [(estimate.mean, *estimate.interval()) for estimate in estimates]
            told_of = [
                f"sigma {s:g}, macro-F1 {v:.3f} ({a:.3f} to {b:.3f})" for s, (v, a, b) in zip(sigmas, y, strict=True)
            ]
            shift = 0.02 * (i - (len(chosen) - 1) / 2)
            draw_curve(place, [x + shift for x in blur_axis(sigmas)], y, label, told_of, group.place)
            found = sorted({*found, *sigmas})
        place.set_xticks(blur_axis(found), [f"{sigma:g}" for sigma in found])
        place.set_xlabel("sigma, px of the 40x40 input, on log2(1 + sigma)")
        place.set_title(title)
    axes[0].set_ylabel("macro-F1, test")
    finish(figure, f"{data}, flag_limit {limit_of(chosen)}")
    return Drawing("figure_blur", figure, f"Macro-F1 under Gaussian blur, {data}. {told(list(chosen.values()))}")


if __name__ == "__main__":
    draw_from(draw)
