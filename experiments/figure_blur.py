"""How does macro-F1 fall with blur? Curves over all sigmas, after and before the resize, with their intervals.

    python experiments/figure_blur.py runs          # or: make figure_blur RUNS=runs

At the flag_limit that most models have.
"""

from collections.abc import Sequence
from functools import partial

from blur_panels import Curve, draw_panels

from cellpatch.captions import labelled, lacking, told
from cellpatch.groups import Group, at_one_limit, blur_curve, under_blur
from cellpatch.plotting import Drawing, draw_from, styled
from cellpatch.stats import macro_f1

TITLES = {"post": "after the resize (post)", "pre": "before the resize (pre)"}


@styled
def draw(data: str, groups: Sequence[Group]) -> Drawing:
    """Macro-F1 against log2(1 + sigma), a panel each for post and pre."""
    chosen = labelled(at_one_limit(under_blur(groups, "pre", "post")), groups)
    panels = {title: partial(_curve, kind) for kind, title in TITLES.items()}
    figure, holes = draw_panels(data, chosen, panels, "macro-F1")
    missing = lacking("Not evaluated under blur", chosen, groups)
    caption = f"Macro-F1 under Gaussian blur, {data}. {told(list(chosen.values()))}{holes}{missing}"
    return Drawing("figure_blur", figure, caption)


def _curve(kind: str, group: Group) -> Curve:
    sigmas, estimates = blur_curve(group, kind, macro_f1)
    return {sigma: estimate.summary() for sigma, estimate in zip(sigmas, estimates, strict=True)}


if __name__ == "__main__":
    draw_from(draw)
